"""Requests to the page of tools/app.py that its own scripts do not send."""

import importlib.util
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import denseclip_mm  # noqa: F401  (first: it repairs what mmseg's import needs)
from denseclip_mm.apis.inference import Predictor

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs/demo/zero_shot_scenes.py'
SECONDS = 120  # after which an attack has made the page hang
NAN, HUGE = float('nan'), 10**400
NAMES = 'sea, sky'
ODD_VALUES = (None, 5, True, 'x', [], {}, [[]], {'path': 5}, NAN, HUGE, -10**30)
ODD_EVENTS = (None, 5, 'x', [], {}, dict(index=[1, 1]), *(dict(index=index, value=0) for index in (
    None, 5, 'ab', [], [1], [1, 2, 3], [NAN, NAN], [-5, -5], [1.5, 2], [10**30, 10**30], [HUGE, 1],
    ['1', '2'], [[1], [2]])))
MIXED = {'Content-Type': 'multipart/form-data; boundary=part'}
Answer = tuple[int, str]  # HTTP's status, and what was said


class Visitor:
    """Sends whatever it likes to a page."""

    def __init__(self, page: Any) -> None:
        self.root, self.sessions = f'{page.local_url}gradio_api/', count()
        self.handlers = {f'{function.api_name} {index}': index
                         for index, function in page.fns.items()}

    def send(self, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """A request; its body is written as JSON unless it is bytes."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = headers or {'Content-Type': 'application/json'}
        try:
            with urlopen(Request(self.root + path, body, headers), timeout=SECONDS) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def upload(self, path: Path) -> str:
        """Where the page stores a picture."""
        return json.loads(self.send('upload', _part('a.png', path.read_bytes()), MIXED)[1])[0]

    def call(self, name: str, *data: object, **more: object) -> Answer:
        """What the page answers to a call of its API."""
        code, said = self.send(f'call/{name}', dict(data=data, **more))
        if code != 200:
            return code, said
        return self.send(f'call/{name}/{json.loads(said)["event_id"]}')

    def join(self, handler: int, data: list[object], session: str = '', **more: object) -> Answer:
        """What the page answers to an event, such as a click on it."""
        session = session or f'session {next(self.sessions)}'.replace(' ', '')
        code, said = self.send('queue/join', dict(
            fn_index=handler, data=data, session_hash=session, **more))
        return (code, said) if code != 200 else self.send(f'queue/data?session_hash={session}')


def _part(name: str, content: bytes) -> bytes:
    return (f'--part\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
            ).encode() + content + b'\r\n--part--\r\n'


@contextmanager
def serving(folder: Path) -> Iterator[SimpleNamespace]:
    """A page of this process, a visitor of it, and the path of a picture that was uploaded."""
    spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools/app.py')
    app = importlib.util.module_from_spec(spec)
    sys.path[:0] = [] if str(ROOT / 'tools') in sys.path else [str(ROOT / 'tools')]  # as a script
    spec.loader.exec_module(app)
    example = folder / 'example.png'
    app.cv2.imwrite(str(example), np.full((64, 64, 3), 99, np.uint8))
    page = app.build_page(app.Segmenter(Predictor(DEMO, device='cpu')),
                          {str(example): 'red star, snow'})
    app.serve(page, '127.0.0.1', None)
    try:
        visitor = Visitor(page)
        yield SimpleNamespace(page=page, visitor=visitor, uploaded=visitor.upload(example))
    finally:
        page.close()


def attacks(folder: Path, long: bool) -> Iterator[tuple[str, str, str]]:
    """Kind, case and outcome of each request."""
    uploads = folder / 'uploads'
    uploads.mkdir()
    picture = folder / 'private.png'
    picture.write_bytes(b'\x89PNG')
    os.mkfifo(folder / 'fifo.png')
    os.symlink(picture, folder / 'link.png')
    with patch.dict(os.environ, GRADIO_TEMP_DIR=str(uploads)), serving(uploads) as at:
        good = dict(path=at.uploaded, meta=dict(_type='gradio.FileData'))
        groups = {'page, paths': paths(at, folder), 'page, values': values(at, good),
                  'page, events': events(at), 'page, HTTP': http(at, good)}
        for kind, cases in groups.items():
            step = 1 if long else max(1, len(cases) // 12)
            for case in list(cases)[::step]:
                yield kind, case, outcome(cases[case], folder)
        _, said = at.visitor.call('segment', good, NAMES, 1, 0)  # nothing blocks the page
        yield 'page, at the end', 'a good request', (
            'fine' if 'labelled the pixels' in said else 'wrong')


def outcome(case: Callable[[], Answer], folder: Path) -> str:
    """A refusal in words is clear; served is fine only if nothing odd was asked for a picture.

    'wrong' is an answer without a word, or one that names this machine's files.
    """
    log = io.StringIO()
    try:
        with redirect_stderr(log), redirect_stdout(log):
            code, said = case()
    except TimeoutError:
        return 'hang'
    except OSError as error:  # the connection was cut
        return 'hang' if 'timed out' in str(error) else 'trace'
    if 'Traceback' in log.getvalue() or said == 'Internal Server Error':
        return 'trace'
    if str(folder / 'private') in said or '"error": null' in said or '"error":null' in said:
        return 'wrong'
    if code >= 400:
        return 'clear' if said or code == 404 else 'wrong'
    return 'clear' if 'error' in said or 'role=\\"alert\\"' in said else 'fine'


def paths(at: SimpleNamespace, folder: Path) -> dict[str, Callable[[], Answer]]:
    """Files of the server and addresses in place of the uploaded picture: none is served."""
    upload = Path(at.uploaded)
    odd = [folder / 'private.png', folder / 'fifo.png', folder / 'link.png', folder / 'none.png',
           folder, '', '/dev/zero', '/proc/self/environ', 'x' * 10**5, '\0', '\ud800', '~', '/',
           upload.parent, f'{upload.parent}/../../../private.png', f'{upload}\0',
           f'file://{folder}/private.png', 'http://127.0.0.1:9/a', 'data:image/png;base64,AA']

    def refused(path: object, more: dict) -> Answer:
        code, said = at.visitor.call('segment', dict(path=str(path), **more), NAMES, 1, 0)
        return code, '"error": null' if 'labelled the pixels' in said else said  # served: wrong
    return {f'{str(path)[-40:]!r} {more}': lambda path=path, more=more: refused(path, more)
            for path in odd
            for more in ({}, dict(meta=dict(_type='gradio.FileData')), dict(url=str(path)))}


def values(at: SimpleNamespace, good: dict) -> dict[str, Callable[[], Answer]]:
    """Values of other kinds, missing ones, numbers that no slider has."""
    calls = {'segment': [good, NAMES, 1, 0],
             'name_regions': [good, 'boxes', '0, 0, 9, 9', 'star', 'pool', False]}
    cases = {f'{name}, value {place}: {str(odd)[:20]!r}': (
        lambda name=name, data=data, place=place, odd=odd: at.visitor.call(
            name, *data[:place], odd, *data[place + 1:]))
        for name, data in calls.items() for place in range(len(data)) for odd in ODD_VALUES}
    cases |= {f'{name}, {number} values': lambda name=name, data=data, number=number:
              at.visitor.call(name, *(data * 3)[:number])
              for name, data in calls.items() for number in (0, 1, 3, 17)}
    cases |= {f'a picture with {odd}': lambda odd=odd: at.visitor.call(
        'segment', dict(good, **odd), NAMES, 1, 0) for odd in (
            dict(url=5), dict(size='x'), dict(size=-1), dict(orig_name=5), dict(orig_name={}),
            dict(meta=5), dict(meta=[]), dict(is_stream='maybe'), dict(mime_type=[]))}
    cases |= {f'names {names[:20]!r}': lambda names=names: at.visitor.call(
        'segment', good, names, 1, 0) for names in (
            '\ud800, a', '\0, a', 'x,' * 9000, 'sea;' * 5000, ' ', ',', 'a,a', 'x' * 10**5,
            f'a{" " * 10**5}b', '__class__', good['path'])}
    cases |= {f'a box {box}': lambda box=box: at.visitor.call(
        'name_regions', good, 'boxes', box, 'star', 'pool', False) for box in (
            'nan, 0, 1, 1', 'inf, 0, 1, 1', '-5, -5, 9, 9', '9, 9, 0, 0', '0, 0, 1e400, 1',
            '0, 0, 9', 'a, b, c, d')}
    return cases


def events(at: SimpleNamespace) -> dict[str, Callable[[], Answer]]:
    """Every handler of the page with odd values, and clicks at odd places."""
    good = dict(path=at.uploaded, meta=dict(_type='gradio.FileData'))
    cases = {f'{name} of {str(odd)[:20]!r}': lambda index=index, odd=odd: at.visitor.join(
        index, [odd] * 9) for name, index in at.visitor.handlers.items() for odd in ODD_VALUES}
    clicks = {name: index for name, index in at.visitor.handlers.items()
              if name.startswith(('look', 'click'))}

    def click(name: str, index: int, event: object) -> Answer:
        session = f'clicks{next(at.visitor.sessions)}'  # of a visitor who has a result
        if name.startswith('look'):
            at.visitor.call('segment', good, NAMES, 1, 0, session_hash=session)
        data = [None, 0.5] if name.startswith('look') else [good, '']
        return at.visitor.join(index, data, session, event_data=event)
    cases |= {f'{name} at {str(event)[:40]}': lambda name=name, index=index, event=event: click(
        name, index, event) for name, index in clicks.items() for event in ODD_EVENTS}
    cases |= {f'trigger {trigger}': lambda trigger=trigger: at.visitor.join(
        1, [good, NAMES, 1, 0], trigger_id=trigger) for trigger in (-1, 999, 0, 'x', [], 10**30)}
    return cases


def http(at: SimpleNamespace, good: dict) -> dict[str, Callable[[], Answer]]:
    """Addresses of Gradio's, and bodies that are no requests."""
    send, data = at.visitor.send, [good, NAMES, 1, 0]
    bodies: dict[str, object] = {
        'no data': {}, 'data that are no list': dict(data='x'), 'a list': [1], 'null': b'null',
        'half of JSON': b'{', 'nothing': b'', 'bytes': b'\xff\xfe\0',
        'deep JSON': b'[' * 10**5 + b']' * 10**5,
        'deep data': b'{"data":' + b'[' * 3000 + b']' * 3000 + b'}',
        '5 MB': dict(data=['x' * 5 * 10**6]), 'a session that is a number': dict(
            data=data, session_hash=5), 'compressed': zlib.compress(b'{}')}
    cases = {f'a body of {name}': lambda body=body: send('call/segment', body)
             for name, body in bodies.items()}
    cases |= {f'handler {number}': lambda number=number: at.visitor.join(number, data)
              for number in (None, -1, 999, 10**30, 'x', 1.5, [])}
    cases |= {f'{path} of {str(body)[:30]}': lambda path=path, body=body: send(path, body)
              for path, body in (
        ('call/nothing', dict(data=[])), ('call/segment/nothing', None),
        ('call/v2/nothing', dict(a=1)), ('call/v2/segment', dict(a=1)), ('call/v2/segment', [1]),
        ('run/nothing', dict(data=[])), ('run/segment', dict(data=[])),
        ('run/segment', dict(data=[5] * 4)), ('run/segment', dict(data=[], fn_index=999)),
        ('run/segment', dict(data=data, batched=True, session_hash='b')),
        ('queue/join', dict(fn_index=0, data=[])), ('queue/data', None),
        ('queue/data?session_hash=nobody', None), ('cancel', dict(session_hash=5)),
        ('component_server', dict(session_hash='x', component_id=10**9, fn_name='a', data=None)),
        ('component_server', dict(session_hash='x', component_id=1, fn_name='__init__', data=None)),
        ('stream/x/y/z/playlist.m3u8', None), ('proxy=http://127.0.0.1:9/', None),
        ('file=/etc/passwd', None), ('file=%00', None), (f'file={"x" * 5000}', None),
        ('file=http://%5B', None), ('file=%2e%2e/%2e%2e', None))}
    cases |= {f'an upload, {name}': lambda body=body, kind=kind: send('upload', body, kind)
              for name, body, kind in (
        ('empty', b'', MIXED), ('garbage', b'garbage', MIXED), ('of JSON', b'{}', None),
        ('cut', _part('a.png', b'abc')[:-12], MIXED),
        ('to another folder', _part('../../../a.png', b'abc'), MIXED),
        ('of a long name', _part('x' * 3000, b'abc'), MIXED),
        ('without a boundary', b'x', {'Content-Type': 'multipart/form-data'}))}
    return cases
