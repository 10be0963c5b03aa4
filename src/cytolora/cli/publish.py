"""publish: a bundle as a repository in the Hugging Face hub's conventions, in a folder or on the hub."""

from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.console import make_console


def publish(
    bundle: str,
    /,
    *,
    to: str,
    private: Annotated[bool, Parameter(negative="")] = False,
    licence_permits: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Publishes a classifier: its files and a model card, into a folder or to the Hugging Face hub in one commit.

    Images and the backbone's weights are not part of it, and no path of this machine is; hashes and features of
    training images are, and names of files and groups where a finding tells them: publish to a folder first and look.
    What the backbone's licence forbids to hand on is refused.

    Examples:

        cytolora publish model --to repository
        cytolora publish model.zip --to hf:our-lab/pap-smear-vit --private
        cytolora predict hf:our-lab/pap-smear-vit cells --out predictions.csv

    Parameters
    ----------
    bundle
        Folder or zip file that `cytolora fit` wrote, or hf:OWNER/NAME.
    to
        Folder, or hf:OWNER/NAME. The hub asks for a token that may write: HF_TOKEN, or `hf auth login`.
    private
        Makes the repository private, where it is new; one that is there and public is refused.
    licence_permits
        Says that you have read the backbone's licence, where its terms are not known here.
    """
    from cytolora.classifier.publish.publish import publish as publish_bundle

    console, warnings = make_console(), make_console(stderr=True)
    address = publish_bundle(bundle, to, private=private, licence_permits=licence_permits)
    console.print(f"{address}", soft_wrap=True)
    console.print(
        f'Open it with cytolora.load("{address}"), or name it to predict, evaluate, serve and export.', soft_wrap=True
    )
    warnings.print(
        "! It holds hashes and features of training images, and what findings say of files and groups: look at card "
        "and report.html before you pass it on.",
        soft_wrap=True,
    )
