"""What all commands share: flags whose mistakes are one sentence, and what the exit code says.

It is 0 where all is done, 2 for bad input, 75 where a signal stopped it and the same command goes
on, 130 where that was Ctrl-C, and 1 for anything else.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jax
from absl import app, flags

from experiments import ConfigError
from experiments.training import devices
from experiments.training.interruption import StoppedError

EXAMPLE = "--config=configs/digits.py"
# How ml_collections begins what a file that cannot be read has said.
EARLIER = "Configuration is not available because of an earlier failure to load:"
# For schedulers and `a && b` it is not finished; as shells name it where Ctrl-C was pressed.
GO_ON, INTERRUPTED = os.EX_TEMPFAIL, 128 + signal.SIGINT


def stop(message: object) -> NoReturn:
    """Ends the program because of bad input, with one sentence and exit code 2."""
    _say_at_last(str(message))
    if jax.distributed.is_initialized():
        os._exit(2)  # an orderly end would wait for the other processes, and they for this one
    sys.exit(2)


def line() -> str:
    """The command that this process was started by, to repeat it."""
    spec = sys.modules["__main__"].__spec__
    program = f"-m {spec.name.removesuffix('.__main__')}" if spec else sys.argv[0]
    return " ".join(["python", program, *map(shlex.quote, sys.argv[1:])])


def run(main: Callable[..., None], *, arguments: bool = False) -> None:
    """Parses the flags, a `--config` file and its changed entries among them, and calls `main`.

    Args:
      main: gets what is not a flag as its arguments.
      arguments: whether there may be any.
    """
    logging.getLogger("jax").setLevel(logging.WARNING)  # not every backend that is missing
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks must not end the work
            stream.reconfigure(errors="backslashreplace")
    parse = functools.partial(_parse, arguments=arguments)
    app.run(lambda argv: _called(main, argv[1:]), flags_parser=parse)


def _called(main: Callable[..., None], arguments: Sequence[str]) -> None:
    try:
        main(*arguments)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception:
        with _sentence():
            devices.check()
        raise


@contextlib.contextmanager
def _sentence() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        stop(error)


def _parse(argv: Sequence[str], arguments: bool) -> list[str]:
    logger = logging.getLogger("absl")  # to which ml_collections writes what is said here
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            # With which ml_collections reads a config file.
            warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)
            rest = flags.FLAGS([_expanded(argument) for argument in argv])
            if "config" in flags.FLAGS:
                _check_config(flags.FLAGS.config)
    except flags.Error as error:
        stop(_lines(error)[-1].removeprefix("ValueError: "))
    except OSError as error:
        reason = str(error).removeprefix(EARLIER).splitlines()[-1].strip()
        stop(f"--config cannot be read ({reason}): name a file, such as {EXAMPLE}.")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        stop("the config has no such entry, or not of that type: " + " ".join(_lines(error)))
    except Exception as error:  # a config file is a program, which may fail in any way
        stop(f"the config file fails with {type(error).__name__}: {' '.join(_lines(error))}")
    finally:
        logger.disabled = False
    if len(rest) > 1 and not arguments:
        stop(f"unexpected arguments {rest[1:]}: options begin with '--'.")
    return rest


def _expanded(argument: str) -> str:
    """The argument with the home folder in place of `~`, which shells leave in `--workdir=~/x`."""
    name, equals, value = argument.partition("=")
    if name.startswith("--") and equals:
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(argument)


def _check_config(config: Any) -> None:
    if config is None:
        stop(f"--config is missing: name a file, such as {EXAMPLE}, whose get_config() returns it.")
    # A config file that is missing complains only when it is used.
    config.to_dict()


def _lines(error: BaseException) -> list[str]:
    text: object = error
    while isinstance(text, BaseException):  # ml_collections wraps one error in another
        text = text.args[0] if text.args else repr(text)
    return [line.strip() for line in str(text).splitlines() if line.strip()] or [repr(error)]


@contextlib.contextmanager
def ends() -> Iterator[None]:
    """Long work: however it ends, one sentence says so, and the exit code what it was.

    Bad input ends with code 2. What is a mistake of the program's own keeps its traceback.
    """
    try:
        yield
    except (OSError, ValueError, TypeError) as error:  # ConfigErrors among them
        stop(error)
    except StoppedError as stopped:
        _stopped(stopped)
    except KeyboardInterrupt:
        print("Interrupted: the same command goes on where this stopped.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        _failed(error)


def _failed(error: Exception) -> NoReturn:
    reason = (str(error).splitlines() or [""])[0].rstrip(".")
    if "RESOURCE_EXHAUSTED" in reason:
        stop(
            f"The device has too little memory ({reason}): a smaller config.batch_size, a larger "
            "config.accumulate, or with several runs at once a smaller config.runs_at_once needs "
            "less."
        )
    if not jax.distributed.is_initialized():
        raise error
    if isinstance(error, jax.errors.JaxRuntimeError):
        text = f"Another process has ended ({reason}): start all of them again, and they go on."
        print(text, file=sys.stderr)
    else:
        traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)  # an orderly end would wait for the other processes, and they for this one


def _stopped(stopped: StoppedError) -> NoReturn:
    if devices.is_first():
        name = signal.Signals(stopped.number).name if stopped.number else "another process"
        saved = f"saved at step {stopped.step}" if stopped.step else "nothing was lost"
        text = f"Stopped by {name}, {saved}: the same command goes on."
        _say_at_last(text)
    sys.exit(INTERRUPTED if stopped.number == signal.SIGINT else GO_ON)


def _say_at_last(text: str) -> None:
    """Prints where somebody can read it: the terminal may be what has been closed."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)  # or else Python's own end fails, with a code of its own
