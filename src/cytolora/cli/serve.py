"""The command `serve`: one classifier or several over HTTP, on localhost unless a token is set."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from cytolora.cli.console import make_console
from cytolora.cli.listening import listening, run_service
from cytolora.cli.options import NO_WEIGHTS, MachineOptions, OfFeatures, WeightOptions
from cytolora.cli.print_findings import print_findings
from cytolora.cli.targets import number, replaced
from cytolora.core.text import counted
from cytolora.data.own_files import REQUEST_LOG
from cytolora.errors import missing_package

if TYPE_CHECKING:
    from cytolora.classifier.inference.predictor import Predictor

_Positive = number(gt=0)


def serve(
    models: Annotated[tuple[str, ...], Parameter(negative="")],
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, number(gte=0, lte=65535)] = 8000,
    token_file: Path | None = None,
    root_path: str = "",
    max_body_mb: Annotated[float, _Positive] = 2,
    max_pixels: Annotated[int, _Positive] = 25_000_000,
    max_images: Annotated[int, _Positive] = 64,
    max_queue: Annotated[int, _Positive] = 256,
    max_batch: Annotated[int, _Positive] = 32,
    max_wait_ms: Annotated[float, number(gte=0)] = 5,
    max_connections: Annotated[int, _Positive] = 1000,
    max_connections_per_client: Annotated[int, _Positive] = 250,
    request_log: Annotated[
        Path | None, Parameter(allow_leading_hyphen=True), replaced("--request-log", REQUEST_LOG)
    ] = None,  # - is standard output
    precision: OfFeatures = "auto",
    files: WeightOptions = NO_WEIGHTS,
    threads: int | None = None,
) -> None:
    """Serves classifiers over HTTP: predictions at POST /v1/predict, a page at /.

    The schema is at /openapi.json, counts for Prometheus are at /metrics. Of several classifiers each answers at
    /v1/models/NAME/predict, and all that are named at /v1/models/predict?model=A&model=B; /v1/predict, which names
    none, is then refused. Those with frozen encoders of one backbone share it in memory, and one forward pass answers
    for all of them.

    On SIGTERM or Ctrl-C no new connection is accepted, and every accepted request is answered.

    Examples:

        cytolora serve model1-onnx
        cytolora serve model1 model2 urine=../urine/model1
        cytolora serve model1 --host 0.0.0.0 --token-file token.txt --request-log requests.jsonl
        curl -F images=@cell.png http://127.0.0.1:8000/v1/predict

    Parameters
    ----------
    models
        Bundles; or exports of `cytolora export --to onnx`, which need no torch and share nothing. Each is called like
        its folder, or as NAME=BUNDLE says.
    host
        Interface to listen on; another than loopback needs --token-file.
    port
        0 takes a free one.
    token_file
        File with a secret of at least 16 characters; clients send it as `Authorization: Bearer …`.
    root_path
        Prefix under which a proxy shows the service, such as /cyto; with it requests are answered with the prefix and
        without, and the schema names it.
    max_body_mb
        Size of a request in MB (1024 x 1024 bytes), at most; larger ones get 413.
    max_pixels
        Width times height of an image, at most.
    max_images
        Images of one request, at most.
    max_queue
        Images waiting for an answer, at most; beyond, clients get 503 and retry later.
    max_batch
        Images computed at once, at most.
    max_wait_ms
        Milliseconds that an image waits for others of its batch.
    max_connections
        Connections open at once, at most; for a new one the oldest without a whole request is closed.
    max_connections_per_client
        Of these, from one address; a proxy is one address, so behind one set both to the same number.
    request_log
        File to whose end every request is written as a line of JSON: time, id, client, path, status, seconds, number of
        images; - is standard output. No names and no results. A file that is there must be such a log.
    precision
        Of a frozen encoder: auto is that of `fit`; fp32 opens a bundle in int8 where int8 cannot be computed.
    threads
        CPU threads that compute.
    """
    from cytolora.classifier.inference.shared_encoder import check_memory
    from cytolora.classifier.serve.guard import clean_root_path, is_loopback, read_token
    from cytolora.classifier.serve.names import named_models
    from cytolora.cli.own_backbones import open_all

    token, root_path, paths = read_token(token_file, host), clean_root_path(root_path), named_models(models)
    try:
        import cytolora.classifier.serve.server  # noqa: F401  (what serves is looked for before a model is opened)
        from cytolora.classifier.serve.app import make_app
        from cytolora.classifier.serve.limits import Limits
        from cytolora.classifier.serve.request_log import request_log as log_to
    except ImportError as error:
        raise missing_package("`cytolora serve` needs", error.name or "FastAPI", extra="serve", error=error) from error
    log = log_to(request_log)
    opened = open_all(paths, files, MachineOptions(device="cpu", threads=threads), precision)
    check_memory(list(opened.values()))
    limits = Limits(
        max_body_bytes=round(max_body_mb * 1024 * 1024),
        max_pixels=max_pixels,
        max_images=min(max_images, max_queue),
        max_queue=max_queue,
        max_batch=max_batch,
        max_wait_seconds=max_wait_ms / 1000,
        max_connections=max_connections,
        max_connections_per_client=max_connections_per_client,
    )
    app = make_app(opened, limits, token=token, loopback_only=is_loopback(host), root_path=root_path, log=log)
    for one in opened.values():
        one.warm_up()
    with listening(host, port) as listener:
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}"
        console = make_console(stderr=True)
        console.print(
            f"{_who(paths, opened)} on {url} (page: /, schema: /openapi.json). Ctrl-C stops it. For research use only."
        )
        for name, one in opened.items():
            print_findings([replace(found, text=f"{name}: {found.text}") for found in one.findings()], console)
        run_service(app, limits, listener)


def _who(paths: Mapping[str, Path], opened: "Mapping[str, Predictor[Any]]") -> str:
    """Says which models answer, and how many encoders they keep in memory."""
    if len(paths) == 1:
        return f"{next(iter(paths.values()))} answers"
    encoders = len({one.encoder_key for one in opened.values()})
    return f"{', '.join(paths)} ({counted(encoders, 'encoder')} in memory) answer"
