"""Requests that the page's own scripts do not send: each ends in a line (see app.py).

Gradio answers them with an empty error, and writes a trace to the log.
"""

import sys
from pathlib import Path
from textwrap import shorten
from traceback import extract_tb
from typing import Any

import gradio as gr
from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 2**20  # bytes of a request that uploads no file; Gradio keeps what is in it
NO_ANSWER = 'the page cannot answer this request; its log says why'
# What odd values and a full disk lead to; the rest are faults of the program, which leave a trace.
EXPECTED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError,
            OSError)
KINDS = {  # of the values that components send
    gr.Textbox: (str, 'a text'), gr.Radio: (str, 'a text'), gr.Slider: (int | float, 'a number'),
    gr.Checkbox: (bool, 'true or false'), gr.Image: (dict, 'an uploaded file')}


class Page(gr.Blocks):
    """Gradio's page, of which every handler ends in an answer or in a line."""

    async def process_api(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any
                          ) -> dict[str, Any]:
        """Read the values of a request, call its handler, and write what this returns.

        Raises:
            gr.Error: in place of any other exception; a fault of the program alone leaves a trace.
        """
        try:
            _check_kinds(block_fn.inputs, inputs)
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except gr.Error as error:
            error.print_exception = False
            raise
        except EXPECTED as error:
            _log(error)
            raise gr.Error(NO_ANSWER, print_exception=False) from error
        except Exception as error:
            raise gr.Error(NO_ANSWER) from error


def _check_kinds(blocks: list[Any], values: list[Any]) -> None:
    if len(values) < len(blocks):
        raise gr.Error(f'{len(blocks)} values are needed, got {len(values)}')
    for block, value in zip(blocks, values, strict=False):
        kind, told = KINDS.get(type(block), (object, ''))
        if not isinstance(value, kind if kind == int | float else kind | None):
            raise gr.Error(f'{block.label} has to be {told}')


class OddRequests:
    """Middleware around all of Gradio's addresses: what fails there is answered in a line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        size, started = 0, False

        async def receive_some() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get('body', b''))
            if size > LARGEST and not scope['path'].endswith('/upload'):
                raise HTTPException(413, f'a request has at most {LARGEST} bytes')
            return message

        async def send_some(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)
        try:
            await self.app(scope, receive_some, send_some)
        except Exception as error:
            _log(error.__cause__ or error)
            told = JSONResponse(dict(error=NO_ANSWER), 400)
            if started:  # a stream of events
                await send(dict(type='http.response.body',
                                body=b'event: error\ndata: ' + told.body + b'\n\n'))
            else:
                await told(scope, receive, send)


def _log(error: Exception) -> None:
    """What went wrong and where, of which visitors are told nothing: it may name files."""
    place = extract_tb(error.__traceback__)[-1]
    print(f'no answer to a request: {type(error).__name__}: {shorten(str(error), 200)!a} '
          f'({Path(place.filename).name}, line {place.lineno})', file=sys.stderr, flush=True)
