"""Fixtures: towers small enough for a CPU, in open_clip's own config format."""

import importlib.util
import io
import logging
import os
import random
import resource
import subprocess
import sys
import traceback
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

os.environ.setdefault('HF_HUB_OFFLINE', '1')  # read when huggingface_hub is imported
os.environ.setdefault('OMP_NUM_THREADS', '1')  # of processes that tests start

from denseclip_mm.text import CLIPTextTower

import cv2
import mmengine.config.config
import numpy as np
import open_clip
import pytest
import timm
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.utils import ManagerMixin
from timm.models import _registry, vision_transformer_hybrid, vitamin
from torch.utils.data.dataloader import DataLoader, _MultiProcessingDataLoaderIter
from yapf.yapflib import yapf_api

init_default_scope('mmseg')  # as every tool and init_model do
# yapf takes a second for each text of a config that mmengine logs or saves: only the looks differ.
for module in (mmengine.config.config, yapf_api):  # one stack imports it when it needs it
    module.FormatCode = lambda text, **options: (text, True)
torch.set_num_threads(1)  # tiny operators; threads that wait for each other are no help

collect_ignore = ['gpu']  # a device that PyTorch has for good; test_gpu.py starts it elsewhere

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'

TINY_TEXT = dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2)
TINY_RESNET = dict(
    embed_dim=24, quick_gelu=True, text_cfg=TINY_TEXT,
    vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=8))
TINY_VIT = dict(
    embed_dim=24, quick_gelu=True, text_cfg=TINY_TEXT,
    vision_cfg=dict(image_size=64, layers=4, width=64, head_width=32, patch_size=16))
SMALL_VIT = dict(img_size=64, embed_dim=64, depth=4, num_heads=2)


def _small_mobileclip_b(**options: object) -> torch.nn.Module:
    stem = vision_transformer_hybrid.ConvStem(
        channels=(8, 8, 64), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0)
    return vision_transformer_hybrid._create_vision_transformer_hybrid(
        'vit_base_mci_224', backbone=stem, embed_args=dict(proj=False), no_embed_class=True,
        **{**SMALL_VIT, **options})


# The image towers that open_clip takes from timm, a few channels wide: how timm builds it, and the
# rest of open_clip's vision config (as in the config of the model that it is of).
TIMM_TOWERS = {
    'siglip': (partial(timm.create_model, 'vit_base_patch16_siglip_224',
                       **{**SMALL_VIT, 'embed_dim': 24}), dict(timm_pool='map', timm_proj='none')),
    'eva02': (partial(timm.create_model, 'eva02_base_patch16_clip_224', ref_feat_shape=(4, 4),
                      **SMALL_VIT), dict(timm_pool='token', timm_proj=None)),
    'pe': (partial(timm.create_model, 'vit_pe_core_base_patch16_224', ref_feat_shape=(4, 4),
                   attn_pool_num_heads=4, **SMALL_VIT), dict(timm_pool='map', timm_proj=None)),
    'mobileclip_b': (_small_mobileclip_b, dict(timm_pool='token', timm_proj=None)),
    'vitamin': (partial(timm.create_model, 'vitamin_small_224', **SMALL_VIT, embed_cfg=(
        vitamin.VitCfg(embed_dim=(16, 32, 64), depths=(1, 1, 1), stem_width=16, head_type='1d',
                       conv_cfg=vitamin.VitConvCfg(norm_layer='layernorm2d', norm_eps=1e-6)))),
        dict(timm_pool='', timm_proj='linear')),
    'fastvit': (partial(timm.create_model, 'fastvit_mci0', layers=(1, 1, 1, 1),
                        embed_dims=(32, 32, 64, 64)), dict(timm_pool='avg', timm_proj=None)),
    'fastvit5': (partial(timm.create_model, 'fastvit_mci3', layers=(1, 1, 1, 1, 1),
                         embed_dims=(32, 32, 64, 64, 128)), dict(timm_pool='avg', timm_proj=None)),
    'convnext': (partial(timm.create_model, 'test_convnext'),
                 dict(timm_pool='', timm_proj='linear')),
}
# Special tokens in the order of their ids; what stands before and after a text; which one pads.
TOKENIZERS = {
    't5': (['<unk>', '</s>'], '$A </s>', '</s>', '</s>'),
    'gemma': (['<pad>', '<eos>', '<unk>'], '$A <eos>', '<pad>', '<eos>'),
    'bert': (['[PAD]', '[UNK]', '[CLS]', '[SEP]'], '[CLS] $A [SEP]', '[PAD]', '[SEP]'),
    'xlm': (['<s>', '<pad>', '</s>', '<unk>'], '<s> $A </s>', '<pad>', '</s>'),
}
TOKENIZER_WORDS = ('sky', 'pool table', 'pool', 'crt screen', 'a sea lion on the street',
                   'photo of the large a b .')
SMALL_DEMO = f"""
_base_ = '{ROOT}/configs/demo/denseclip_fpn_scenes.py'
clip = dict(embed_dim=32, quick_gelu=True,
            vision_cfg=dict(image_size=64, layers=[1, 1, 1, 1], width=8),
            text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=2))
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(model=dict(_delete_=True, **clip), pretrained=None, image_size=64),
    neck=dict(text_encoder=dict(model=dict(_delete_=True, **clip), pretrained=None),
              neck=dict(in_channels=[32, 64, 128, 256])))
"""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Files are no names of tests: an archive holds its time, so processes would disagree."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope='session')
def small_demo() -> str:
    """A config as text: the demo's, with towers of a few channels. Tests add what they change."""
    return SMALL_DEMO


@pytest.fixture
def tiny_resnet() -> dict:
    """open_clip config of a ModifiedResNet of 8 to 256 channels and a 2-layer text tower."""
    return deepcopy(TINY_RESNET)


@pytest.fixture
def tiny_vit() -> dict:
    """open_clip config of a 4-layer ViT and a 2-layer text tower."""
    return deepcopy(TINY_VIT)


@pytest.fixture
def timm_clip(monkeypatch, tiny_resnet) -> Callable[[str], dict]:
    """Makes the open_clip config of one of ``TIMM_TOWERS`` and a 2-layer text tower."""
    def config(name: str) -> dict:
        build, vision = TIMM_TOWERS[name]
        monkeypatch.setitem(_registry._model_entrypoints, f'small_{name}', build)
        return dict(tiny_resnet, quick_gelu=False, vision_cfg=dict(
            vision, timm_model_name=f'small_{name}', image_size=64))
    return config


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Callable[..., str]:
    """Writes a tokenizer of a kind and some words, as Hugging Face's folders hold them."""
    tokenizers, transformers = map(pytest.importorskip, ('tokenizers', 'transformers'))

    def write(kind: str, words: Sequence[str] = TOKENIZER_WORDS) -> str:
        special, template, pad, end = TOKENIZERS[kind]
        unknown = next(token for token in special if 'unk' in token.lower())
        model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token=unknown))
        model.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        model.train_from_iterator([*words] * 3, (
            tokenizers.trainers.WordPieceTrainer(special_tokens=special, vocab_size=200)))
        model.post_processor = tokenizers.processors.TemplateProcessing(
            single=template, special_tokens=[(each, special.index(each)) for each in special])
        folder = tmp_path / kind
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=model, pad_token=pad, eos_token=end, sep_token=end,
            unk_token=unknown, padding_side='right').save_pretrained(folder)
        return str(folder)
    return write


def _model_config(clip: dict, names: Sequence[str]) -> dict:
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64), mean=[120.] * 3,
                               std=[70.] * 3, bgr_to_rgb=True),
        backbone=dict(type='CLIPResNet', model=clip, image_size=64),
        neck=dict(
            type='PixelTextNeck', class_names=list(names), score_map_index=3,
            text_encoder=dict(type='CLIPTextTower', model=clip),
            prompt=dict(type='LearnedContext', num_context=2),
            neck=dict(type='FPN', in_channels=[32, 64, 128, 256], out_channels=8, num_outs=4)),
        decode_head=dict(type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                         feature_strides=[4, 8, 16, 32], channels=8, num_classes=len(names),
                         norm_cfg=dict(type='BN')),
        auxiliary_head=dict(type='ScoreMapHead', in_index=4, num_classes=len(names)),
        test_cfg=dict(mode='whole'))


@pytest.fixture(scope='session')
def model_config() -> Callable[[dict, Sequence[str]], dict]:
    """Makes the config of a whole model of 64 x 64 images, of a tiny ResNet and class names."""
    return _model_config


@pytest.fixture(scope='session')
def load_tool() -> Callable[[str], ModuleType]:
    """Imports tools/NAME.py."""
    def load(name: str) -> ModuleType:
        path = ROOT / f'tools/{name}.py'
        spec = importlib.util.spec_from_file_location(name, path)
        tool = importlib.util.module_from_spec(spec)
        with patch.object(sys, 'path', [str(path.parent), *sys.path]):  # as of a script
            spec.loader.exec_module(tool)
        return tool
    return load


def _managed(cls: type = ManagerMixin) -> Iterator[type]:
    """Mmengine's classes of global instances: loggers, message hubs, visualisers, scopes."""
    for each in cls.__subclasses__():
        yield each
        yield from _managed(each)


@contextmanager
def _own_state(*kept: type[ManagerMixin]) -> Iterator[None]:
    """What comes up here ends here: global instances, log files and data workers.

    Data workers that the garbage collector finds among other garbage take 5 seconds each: their
    queues are closed before they are told to end.
    """
    with pytest.MonkeyPatch.context() as change:
        loaders, init = [], _MultiProcessingDataLoaderIter.__init__

        def remember(self: _MultiProcessingDataLoaderIter, loader: DataLoader) -> None:
            init(self, loader)
            loaders.append(weakref.ref(self))
        change.setattr(_MultiProcessingDataLoaderIter, '__init__', remember)
        for cls in _managed():
            change.setattr(cls, '_instance_dict',
                           OrderedDict(cls._instance_dict if cls in kept else ()))
        yield
        for logger in MMLogger._instance_dict.values():
            for handler in logger.handlers:
                handler.close()
        for loader in filter(None, (each() for each in loaders)):
            loader._shutdown_workers()


@pytest.fixture(autouse=True, scope='module')
def own_state_of_module() -> Iterator[None]:
    """As :func:`own_state`, of what a module's fixtures make."""
    with _own_state(DefaultScope):
        yield


@pytest.fixture(autouse=True)
def own_state(own_state_of_module: None) -> Iterator[None]:
    """A logger that one test leaves behind, its file closed, would fail the next one that logs."""
    with _own_state(DefaultScope):
        yield


@contextmanager
def _fresh_process(cwd: Path, script: Path) -> Iterator[None]:
    """What a script sets for its own process is as before afterwards."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    drawn, level = (random.getstate(), np.random.get_state()), logging.getLogger('mmengine').level
    with pytest.MonkeyPatch.context() as change, patch.dict(os.environ), torch.random.fork_rng([]):
        change.chdir(cwd)
        change.setattr(sys, 'argv', [str(script)])
        change.setattr(logging, 'raiseExceptions', logging.raiseExceptions)
        change.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))
        change.setattr(logging, '_handlerList', [])  # uvicorn closes those that it finds
        with _own_state():
            yield
    random.setstate(drawn[0])
    np.random.set_state(drawn[1])
    logging.getLogger('mmengine').setLevel(level)
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture(scope='session')
def run_tool(load_tool) -> Callable[..., subprocess.CompletedProcess]:
    """Runs ``main`` of tools/NAME.py here, as a process of its own would be run in ``cwd``.

    Importing the package takes seconds, so a process is for what only a process shows.
    """
    def run(name: str, *words: object, cwd: Path) -> subprocess.CompletedProcess:
        out, err = io.StringIO(), io.StringIO()
        argv = [str(word) for word in words]
        with _fresh_process(cwd, ROOT / f'tools/{name}.py'), redirect_stdout(out), \
                redirect_stderr(err):
            try:
                load_tool(name).main(argv)
                code = 0
            except SystemExit as stop:  # as Python ends with it
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
                if code and code is not stop.code:
                    err.write(f'{stop.code}\n')
            except Exception:
                traceback.print_exc()
                code = 1
        return subprocess.CompletedProcess([name, *argv], code, out.getvalue(), err.getvalue())
    return run


@pytest.fixture(scope='session')
def succeed(run_tool) -> Callable[..., str]:
    """Runs a tool that has to end well; returns what it printed."""
    def succeed(name: str, *words: object, cwd: Path) -> str:
        done = run_tool(name, *words, cwd=cwd)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout + done.stderr
    return succeed


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope='session')
def full_disk() -> Callable[[int], AbstractContextManager]:
    """Stands for a full disk: no file grows beyond this size in bytes."""
    return _full_disk


@pytest.fixture
def build_pair(tmp_path) -> Callable[[dict], tuple[open_clip.CLIP, CLIPTextTower]]:
    """Builds a random open_clip model of a config, and a tower with its weights."""
    def build(config: dict) -> tuple[open_clip.CLIP, CLIPTextTower]:
        torch.manual_seed(0)
        clip = open_clip.CLIP(**config).eval()
        torch.save(clip.state_dict(), tmp_path / 'clip.pt')
        tower = CLIPTextTower(model=config, pretrained=str(tmp_path / 'clip.pt'))
        tower.init_weights()
        return clip, tower
    return build


@pytest.fixture
def pair(build_pair, tiny_vit) -> tuple[open_clip.CLIP, CLIPTextTower]:
    """The pair of ``tiny_vit``."""
    return build_pair(tiny_vit)


@pytest.fixture
def shared() -> Path:
    """The folder of reference values and data beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f'{SHARED} with reference values and data is absent')
    return SHARED
