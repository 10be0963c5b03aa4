"""The command `serve`: a classifier over HTTP, on localhost unless a token is set."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cytolora.cli.console import make_console
from cytolora.cli.listening import listening, run_service
from cytolora.cli.options import NO_WEIGHTS, MachineOptions, OfFeatures, WeightOptions
from cytolora.cli.print_findings import print_findings
from cytolora.errors import missing_package

_Positive = Parameter(validator=Number(gt=0))


def serve(
    model: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8000,
    token_file: Path | None = None,
    root_path: str = "",
    max_body_mb: Annotated[float, _Positive] = 2,
    max_pixels: Annotated[int, _Positive] = 25_000_000,
    max_images: Annotated[int, _Positive] = 64,
    max_queue: Annotated[int, _Positive] = 256,
    max_batch: Annotated[int, _Positive] = 32,
    max_wait_ms: Annotated[float, Parameter(validator=Number(gte=0))] = 5,
    max_connections: Annotated[int, _Positive] = 1000,
    max_connections_per_client: Annotated[int, _Positive] = 250,
    request_log: Path | None = None,
    precision: OfFeatures = "auto",
    files: WeightOptions = NO_WEIGHTS,
    threads: int | None = None,
) -> None:
    """Serves a classifier over HTTP: predictions at POST /v1/predict, a page at /.

    The schema is at /openapi.json, counts for Prometheus are at /metrics.

    On SIGTERM or Ctrl-C no new connection is accepted, and every accepted request is answered.

    Examples:

        cytolora serve model1-onnx
        cytolora serve model1 --host 0.0.0.0 --token-file token.txt --request-log requests.jsonl
        curl -F images=@cell.png http://127.0.0.1:8000/v1/predict

    Parameters
    ----------
    model
        Bundle; or an export of `cytolora export --to onnx`, which needs no torch.
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
        images; - is standard output. No names and no results.
    precision
        Of a frozen encoder: auto is that of `fit`; fp32 opens a bundle in int8 where int8 cannot be computed.
    threads
        CPU threads that compute.
    """
    from cytolora.classifier.serve.guard import clean_root_path, is_loopback, read_token
    from cytolora.cli.own_backbones import open_any

    token, root_path = read_token(token_file, host), clean_root_path(root_path)
    try:
        from cytolora.classifier.serve.app import make_app
        from cytolora.classifier.serve.limits import Limits
        from cytolora.classifier.serve.request_log import request_log as log_to
    except ImportError as error:
        raise missing_package("`cytolora serve` needs", error.name or "FastAPI", extra="serve", error=error) from error
    log = log_to(request_log)
    predictor = open_any(model, files, MachineOptions(device="cpu", threads=threads), precision)
    predictor.warm_up()
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
    app = make_app(predictor, limits, token=token, loopback_only=is_loopback(host), root_path=root_path, log=log)
    with listening(host, port) as listener:
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}"
        console = make_console(stderr=True)
        console.print(
            f"{model} answers on {url} (page: /, schema: /openapi.json). Ctrl-C stops it. For research use only."
        )
        print_findings(predictor.findings(), console)
        run_service(app, limits, listener)
