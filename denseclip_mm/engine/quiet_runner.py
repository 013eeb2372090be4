"""A run as a person follows it: on the console what one reads, in the log file all of it."""

import logging
import re

from mmengine.logging import MMLogger
from mmengine.runner import Runner

# Environment, config, the order of the hooks, a line for each parameter, and what mmengine warns
# of its own ways.
_FOR_THE_FILE = re.compile(
    r'\n-{9}|Config:\n|Hooks will be executed|paramwise_options -- |.* is skipped since its '
    r'requires|"(FileClient|HardDiskBackend)" |The prefix is not set in metric class|Distributed '
    r'training is not used, all Sync')


def for_the_console(record: logging.LogRecord) -> bool:
    r"""Whether a record is one that a person reads while a run starts.

    Examples:
        >>> def record(text: str) -> logging.LogRecord:
        ...     return logging.makeLogRecord(dict(msg=text, levelno=logging.INFO))
        >>> for_the_console(record('Config:\nmodel = ...')), for_the_console(record('Iter(train)'))
        (False, True)
    """
    return _FOR_THE_FILE.match(record.getMessage()) is None


class QuietRunner(Runner):
    """mmengine's runner; its console leaves out what nobody reads before the first iteration.

    The log file has everything, and so has the console with ``log_level='DEBUG'``.
    """

    def build_logger(self, log_level: int | str = 'INFO',
                     log_file: str | None = None) -> MMLogger:
        """The logger, its console filtered by :func:`for_the_console`."""
        logger = super().build_logger(log_level=log_level, log_file=log_file)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                logger.info(f'environment, config and every parameter: {handler.baseFilename}')
            elif handler.level > logging.DEBUG:
                handler.addFilter(for_the_console)
        return logger
