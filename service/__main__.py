"""The command `recjpq-serve`, also `python -m service`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress

from service.errors import SettingsError
from service.logs import configure_logging
from service.server import make_server
from service.settings import describe_settings, read_settings, unknown_variables


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
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has ended well
        make_server(settings).run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recjpq-serve",
        description="Serve recommendations from a trained artifact over HTTP.",
        epilog=f"environment variables:\n{describe_settings()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", help="address to listen on; wins over RECJPQ_HOST")
    parser.add_argument("--port", type=int, help="port to listen on; wins over RECJPQ_PORT")
    return parser


if __name__ == "__main__":
    sys.exit(main())
