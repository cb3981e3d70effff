"""The command `recjpq-serve`, also `python -m service`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from service.errors import SettingsError, StartupError
from service.logs import configure_logging
from service.process.listen import bind
from service.settings import Settings, describe_settings, read_settings, unknown_variables


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        settings = read_settings(host=arguments.host, port=arguments.port)
    except SettingsError as error:
        sys.stderr.write(f"recjpq-serve: {error}\n")
        return 2
    configure_logging(settings.log_level)
    for name in unknown_variables():
        logging.getLogger(__name__).warning("%s is set, but there is no such setting", name)
    try:
        return _check(settings) if arguments.check else _serve(settings)
    except StartupError as error:
        logging.getLogger(__name__).error("cannot start: %s", error)
        return 3


# What serves is imported where it is needed: a supervisor is small without it.
def _serve(settings: Settings) -> int:
    listeners = bind(settings.host, settings.port)
    if settings.workers > 1:
        from service.process.workers import supervise  # noqa: PLC0415

        return supervise(settings, listeners)
    from service.process.server import serve  # noqa: PLC0415

    return serve(settings, listeners)


def _check(settings: Settings) -> int:
    from service.process.server import check  # noqa: PLC0415

    return check(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recjpq-serve",
        description="Serve recommendations from a trained artifact over HTTP.",
        epilog=f"environment variables:\n{describe_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", help="address to listen on; wins over RECJPQ_HOST")
    parser.add_argument("--port", type=int, help="port to listen on; wins over RECJPQ_PORT")
    parser.add_argument(
        "--check", action="store_true", help="open the store, load and verify the model, and end"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
