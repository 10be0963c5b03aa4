"""Environment of the templates of HTML pages; importing it loads Jinja, which pages alone need."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_templates(*packages: str, folder: str = "templates", lstrip_blocks: bool = True) -> Environment:
    """Returns an environment of the templates of some packages, and of those that all pages share.

    It escapes whatever is filled in, and refuses what a template names and nobody gives.

    Args:
        packages: The first one that has a template is taken.
        folder: Of the templates in each package.
        lstrip_blocks: Whether spaces before a block are left out.
    """
    loaders = [PackageLoader(package, folder) for package in packages]
    return Environment(
        loader=ChoiceLoader([*loaders, PackageLoader("cytolora.display")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=lstrip_blocks,
    )
