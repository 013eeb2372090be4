"""Files of strangers: code in them, damage, bombs."""

import importlib.util
import io
import os
import pickle
import random
import signal
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType

import denseclip_mm  # noqa: F401  (first: it repairs what mmseg's import needs)
from denseclip_mm.apis.pictures import read_image
from denseclip_mm.backbones import CLIPResNet
from denseclip_mm.clip import read_file
from denseclip_mm.files import read_state_dict, read_tensors
from denseclip_mm.models.vocabulary import parse_class_names, read_class_names
from denseclip_mm.text import TextEmbeddings

import numpy as np
import torch
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / 'configs/demo/zero_shot_scenes.py'
PROMPTS = ROOT / 'configs/demo/coop_scenes.py'  # the smallest that trains
SECONDS = 120  # after which an attack has made the program hang
Attack = tuple[str, str, str]
State = dict[str, Tensor]


class Hang(BaseException):
    """Passes through whoever catches exceptions."""


def outcome_of(call: Callable[[], object], *, tool: bool = False) -> str:
    """How a call ends; a tool has to end with a line itself, a function by an error of one line."""
    def stop(*_: object) -> None:
        raise Hang
    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            call()
        return 'fine'
    except Hang:
        return 'hang'
    except SystemExit as end:
        return 'clear' if isinstance(end.code, str) and len(end.code.splitlines()) == 1 else 'trace'
    except (ValueError, FileNotFoundError) as error:
        return 'trace' if tool or len(str(error).splitlines()) != 1 else 'clear'
    except Exception:
        return 'trace'
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def attacks(folder: Path, long: bool) -> Iterator[Attack]:
    """Kind, case and outcome of each attack."""
    torch.manual_seed(0)
    for part in (code_in_files, damaged_files, bombs):
        (folder / part.__name__).mkdir()
        yield from part(folder / part.__name__, long)


# --- files with code -----------------------------------------------------------------------------


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        """The call."""
        return self.call


class WritesAFile(nn.Module):
    """TorchScript that overwrites a file when it loads."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        """What is saved."""
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, saved: tuple[str, bool]) -> None:
        """Runs in torch.jit.load."""
        self.path = saved[0]
        written = torch.from_file(self.path, True, 1, dtype=torch.uint8)
        written.copy_(torch.tensor([33], dtype=torch.uint8))
        self.training = bool(written[0] == 0)

    def forward(self) -> int:
        """Nothing."""
        return 0


def _torchscript(path: Path, made: Path) -> None:
    made.write_text('?')
    torch.jit.save(torch.jit.script(WritesAFile(str(made))), path)
    made.unlink()


def _saved(path: Path, made: Path, **options: object) -> None:
    torch.save(dict(state_dict={'a': Call(os.mkdir, str(made))}, meta={}), path, **options)


PAYLOADS: dict[str, Callable[[Path, Path], object]] = {
    'torch.save': _saved,
    'torch.save before 1.6': lambda path, made: _saved(
        path, made, _use_new_zipfile_serialization=False),
    'TorchScript': _torchscript,
    'pickle': lambda path, made: path.write_bytes(pickle.dumps(Call(os.mkdir, str(made)), 2)),
    'pickle of a program': lambda path, made: path.write_bytes(
        pickle.dumps(Call(eval, f'__import__("os").mkdir({str(made)!r})'), 4)),
    'pickle of the first protocol': lambda path, made: path.write_bytes(
        f'cos\nmkdir\n(S{str(made)!r}\ntR.'.encode()),
    'a call of a part of numpy': lambda path, made: torch.save(
        dict(state_dict=Call(np.ndarray.tofile, np.zeros(1), str(made))), path),
    'a look-up by getattr': lambda path, made: torch.save(
        dict(state_dict=Call(getattr, Call(getattr, Tensor, 'numpy'), '__globals__')), path),
    'numpy.save': lambda path, made: np.save(path.open('wb'), np.array(
        [Call(os.mkdir, str(made))], dtype=object)),
}


def _tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location('tool', ROOT / f'tools/{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def _resume(path: Path, folder: Path) -> None:
    work_dir = Path(tempfile.mkdtemp(dir=folder))
    (work_dir / 'iter_1.pth').write_bytes(path.read_bytes())
    _tool('train').main([str(PROMPTS), '--work-dir', str(work_dir), '--resume'])


def _train(folder: Path, option: str) -> None:
    _tool('train').main([str(PROMPTS), '--work-dir', str(folder / 'out'), '--cfg-options', option])


def _draw(name: str, path: Path, folder: Path) -> None:
    _tool(f'analysis_tools/{name}').main([str(PROMPTS), str(path), str(folder / 'out.png')])


def _embeddings(path: Path, folder: Path) -> None:
    TextEmbeddings(embed_dim=2, texts=['a', 'b'], path=str(path)).init_weights()


def _published(folder: Path) -> Path:
    torch.save(dict(state_dict={'contexts': torch.zeros(1, 8, 4)}), folder / 'published.pth')
    return folder / 'published.pth'


TOOLS: dict[str, Callable[[Path, Path], object]] = {
    'app.py': lambda path, folder: _tool('app').main([str(DEMO), str(path)]),
    'export.py': lambda path, folder: _tool('export').main(
        [str(DEMO), str(path), '--out', str(folder / 'out')]),
    'predict.py': lambda path, folder: _tool('predict').main(
        [str(DEMO), str(path), str(ROOT / 'docs/images/demo.png'), '--out', str(folder / 'out')]),
    'convert_checkpoint.py': lambda path, folder: _tool('convert_checkpoint').main(
        [str(path), str(folder / 'out.pth')]),
    'convert_checkpoint.py --clip': lambda path, folder: _tool('convert_checkpoint').main(
        [str(_published(folder)), str(folder / 'out.pth'), '--clip', str(path)]),
    'draw_contexts.py': lambda path, folder: _draw('draw_contexts', path, folder),
    'draw_score_maps.py': lambda path, folder: _draw('draw_score_maps', path, folder),
}
RUNS: dict[str, Callable[[Path, Path], object]] = {
    'train.py --resume': _resume,
    'train.py, load_from': lambda path, folder: _train(folder, f'load_from={path}'),
    'train.py, pretrained': lambda path, folder: _train(
        folder, f'model.backbone.pretrained={path}'),
    'test.py': lambda path, folder: _tool('test').main(
        [str(DEMO), str(path), '--work-dir', str(folder / 'out')]),
}
FUNCTIONS: dict[str, Callable[[Path, Path], object]] = {
    'pretrained': lambda path, folder: CLIPResNet(
        model='DemoCLIP', pretrained=str(path), image_size=64).init_weights(),
    'TextEmbeddings': _embeddings,
    'mmengine': lambda path, folder: CheckpointLoader.load_checkpoint(str(path), 'cpu'),
}


def code_in_files(folder: Path, long: bool) -> Iterator[Attack]:
    """Each entry, and each way to put code into a file; the short form starts no training."""
    payloads = [*PAYLOADS] if long else ['torch.save', 'TorchScript', 'pickle']
    entries = {**FUNCTIONS, **TOOLS, **(RUNS if long else {})}
    for entry, call in entries.items():
        for payload in payloads:
            if not long and entry in TOOLS and payload != payloads[len(entry) % 3]:
                continue  # building a model takes its time
            path = folder / ('file.npy' if payload == 'numpy.save' else 'file.pth')
            made = folder / 'made'
            PAYLOADS[payload](path, made)
            if payload == 'TorchScript':
                made.write_text('?')
            outcome = outcome_of(lambda call=call, path=path: call(path, folder),
                                 tool=entry not in FUNCTIONS)
            if made.is_dir() or (made.exists() and made.read_text() != '?'):
                outcome = 'executed'
            elif outcome == 'fine':
                outcome = 'wrong'
            if made.is_file():
                made.unlink()
            yield 'files with code', f'{payload} in {entry}', outcome


# --- damaged files -------------------------------------------------------------------------------


def _whole_files(folder: Path, state: State) -> dict[str, tuple[Path, bool]]:
    """Files of a state dict by their kind, and whether the kind has check sums."""
    module = nn.Module()
    for name, value in state.items():
        module.register_buffer(name, value)
    paths = {kind: folder / f'whole{suffix}' for kind, suffix in (
        ('torch.save', '.pth'), ('a training', '.train.pth'), ('TorchScript', '.script.pt'),
        ('torch.save before 1.6', '.old.pth'), ('safetensors', '.safetensors'), ('npy', '.npy'))}
    torch.save(state, paths['torch.save'])
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(
        classes=['sky', 'sea'], palette=[[0, 0, 1], [2, 3, 4]]))), paths['a training'])
    torch.jit.save(torch.jit.script(module), paths['TorchScript'])
    torch.save(state, paths['torch.save before 1.6'], _use_new_zipfile_serialization=False)
    save_file(state, paths['safetensors'])
    np.save(paths['npy'], state['weight'].numpy())
    return {kind: (path, kind in ('torch.save', 'a training', 'TorchScript'))
            for kind, path in paths.items()}


def damaged_files(folder: Path, long: bool) -> Iterator[Attack]:
    """Cut, with bits flipped (of kinds that have check sums), or under another kind's ending."""
    draw = random.Random(0)
    state = {'weight': torch.randn(40, 30), 'bias': torch.randn(30)}
    wholes = _whole_files(folder, state)
    for number in range(300 if long else 60):
        kind = draw.choice([*wholes])
        path, checked = wholes[kind]
        damage = draw.choice(['cut', 'kind swapped', *(['bits flipped'] if checked else ())])
        content, suffix = bytearray(path.read_bytes()), path.suffix
        if damage == 'cut':
            del content[draw.randrange(len(content)):]
        elif damage == 'kind swapped':
            suffix = draw.choice([each for each in ('.pth', '.npy', '.safetensors', '.zip', '')
                                  if each != suffix])
        else:
            for _ in range(draw.choice([1, 1, 2, 20])):
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        damaged = folder / f'damaged{suffix}'
        damaged.write_bytes(content)
        for reader in (read_tensors, read_state_dict, read_file):
            read: list = []
            outcome = outcome_of(lambda reader=reader, damaged=damaged, read=read:
                                 read.append(reader(damaged)))
            if outcome == 'fine' and not _equal(read[0], state):
                outcome = 'wrong'
            yield 'damaged checkpoints', f'{kind}, {damage} ({number}), {reader.__name__}', outcome


def _equal(read: object, state: State) -> bool:
    """Whether the tensors are those that were saved."""
    if isinstance(read, tuple):
        read = read[0]
    if isinstance(read, Tensor):
        return torch.equal(read, state['weight'])
    read = read.get('state_dict', read)
    return read.keys() == state.keys() and all(
        torch.equal(read[name], value) for name, value in state.items())


# --- bombs ---------------------------------------------------------------------------------------


def _zip(path: Path, entry: str) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as bomb, \
            bomb.open(f'bomb/{entry}', 'w') as stream:
        for _ in range(200):
            stream.write(bytes(2**20))
    return path


def _picture(path: Path, width: int, height: int) -> Path:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack('>I', zlib.crc32(kind + content))
        return struct.pack('>I', len(content)) + kind + content + check
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(
        b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))
    return path


def _rows(path: Path) -> Path:
    np.save(path, np.zeros((10, 10), np.float32))
    path.write_bytes(path.read_bytes().replace(b'(10, 10), }', b'(9999999, 9999999), }'))
    return path


def _expanded(path: Path) -> Path:
    torch.save({'weight': torch.zeros(1).expand(10**6, 10**6)}, path)
    return path


def bombs(folder: Path, long: bool) -> Iterator[Attack]:
    """What is small and would be large; the process may not grow by 300 MB."""
    cases: dict[str, Callable[[], object]] = {
        'a zip of 200 MB in 200 kB': lambda: read_tensors(_zip(folder / 'a.pth', 'data.pkl')),
        'a TorchScript archive of 200 MB': lambda: read_file(
            _zip(folder / 'b.pt', 'constants.pkl')),
        'a header of 10^7 x 10^7 rows': lambda: read_tensors(_rows(folder / 'c.npy')),
        'a tensor of 10^6 x 10^6 from one number': lambda: read_state_dict(
            _expanded(folder / 'd.pth')),
        **{f'a picture of {width} x {height}': lambda width=width, height=height: read_image(
            _picture(folder / 'e.png', width, height))
            for width, height in ((10**5, 10**5), (30_000, 30_000), (2 * 10**9, 1))},
        'a name of 10^5 characters': lambda: read_class_names(['sky', 'etaoin' * 17_000]),
        '10^5 spaces in a list of names': lambda: read_class_names(
            parse_class_names(f'a{" " * 10**5}b{"c" * 2000}, d')),
    }
    for case, call in cases.items():
        before = _peak()
        outcome = outcome_of(call)
        if outcome == 'fine' or _peak() - before > 300:
            outcome = 'wrong'
        yield 'bombs', case, outcome


def _peak() -> float:
    """The most memory that this process has had, in MB."""
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
