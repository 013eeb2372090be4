"""Published checkpoints: the same numbers as the published code, other sizes, and what is refused.

The reference values in ``shared/reference`` were computed by the published code (see design.md,
section 4); the small checkpoints here are models of this package under the published names.
"""

import pickle
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

from denseclip_mm.apis.checkpoints.convert import _palette, convert
from denseclip_mm.files import read_state_dict

import numpy as np
import open_clip
import pytest
import torch
from mmengine.runner import load_checkpoint
from mmengine.structures import PixelData
from mmseg.apis import init_model
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import get_classes, get_palette
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / 'tools' / 'convert_checkpoint.py'


@pytest.fixture
def convert_file(run_tool: Callable, tmp_path: Path) -> Callable[..., str | None]:
    """Runs the tool; says what it says when it stops with an error."""
    def convert_file(*arguments: object) -> str | None:
        done = run_tool('convert_checkpoint', *arguments, cwd=tmp_path)
        assert 'Traceback' not in done.stderr
        return done.stderr if done.returncode else None
    return convert_file


# The published code's numbers


def relative_error(ours: Tensor | float, theirs: np.ndarray) -> float:
    ours = torch.as_tensor(ours).detach().double()
    assert ours.shape == theirs.shape
    return float((ours - torch.from_numpy(theirs).double()).norm() / np.linalg.norm(theirs))


GRADIENTS = ('neck.prompt.contexts', 'neck.gamma', 'neck.context_decoder.out_proj.1.weight',
             'backbone.tower.conv1.weight')


def everything(model: nn.Module, side: int, num_classes: int) -> dict[str, Tensor]:
    """What the reference files hold, by their names."""
    x = np.random.RandomState(2022).standard_normal((1, 3, side, side)).astype(np.float32)
    y = np.random.RandomState(2023).randint(0, num_classes, (1, 1, side // 8, side // 8))
    y = y.repeat(8, 2).repeat(8, 3)
    y[:, :, :16] = 255
    x, y = torch.from_numpy(x).double(), torch.from_numpy(y)
    model.double()  # in float32 gradients differ by 3e-4 from one kind of CPU to another
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in GRADIENTS)  # the others take half of the time

    neck, seen = model.neck, {}
    for name in ('backbone', 'neck'):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, outputs, name=name: seen.update({name: outputs}))
    losses = model.loss(x, [SegDataSample(gt_sem_seg=PixelData(data=y[0]))])
    (losses['decode.loss_ce'] + losses['aux.loss_ce']).backward()
    *maps, (image, dense) = seen['backbone']
    with torch.no_grad():
        tokens = torch.cat([image[:, :, None], dense.flatten(2)], dim=2).transpose(1, 2)
        text = neck.text_embeddings(neck.vocabulary, tokens)
        refined = text + neck.gamma * neck.context_decoder(text, tokens)
        logits = model.decode_head.predict(seen['neck'], [dict(img_shape=(side, side))], {})
    return {
        **{f'feat{level}_mean': fmap.mean((2, 3)) for level, fmap in enumerate(maps)},
        'feat3': maps[3][:, :64],
        'global_embedding': image,
        'dense_embedding': dense[:, ::8],
        'text_embedding': text[0],
        'refined_text_embedding': refined[:, :, ::4],
        'score_map': seen['neck'][-1],
        'logits': logits[:, :, ::16, ::16],
        'logits_std': logits.std(),
        'loss/decode.loss_ce': losses['decode.loss_ce'],
        'loss/aux_identity.loss_ce': losses['aux.loss_ce'],
        'grad/contexts': neck.prompt.contexts.grad[None],
        'grad/gamma': neck.gamma.grad,
        'grad/context_decoder.out_proj.1.weight_norm':
            neck.context_decoder.out_proj[1].weight.grad.norm(),
        'grad/backbone.conv1.weight': model.backbone.tower.conv1.weight.grad,
    }


@pytest.mark.parametrize(('case', 'config', 'side', 'report'), [
    pytest.param('rn50_ade20k_512', 'denseclip_fpn.py', 512,
                 'CLIPResNet, layers [3, 4, 6, 3], width 64, image_size 512', id='rn50'),
    pytest.param('vitb16_ade20k_640', 'denseclip/denseclip_fpn_vitb16.py', 640,
                 'CLIPVisionTransformer, layers 12, width 768, image_size 640', id='vitb16',
                 marks=pytest.mark.one_stack),
])
def test_equals_the_published_code(case: str, config: str, side: int, report: str, shared: Path,
                                   tmp_path: Path, succeed: Callable[..., str]) -> None:
    """Features, embeddings, score map, logits, losses and gradients, from file to number."""
    reference = shared / 'reference'
    published, converted = tmp_path / 'published.pth', tmp_path / 'converted.pth'
    try:
        subprocess.run([sys.executable, reference / 'make_checkpoint.py',
                        reference / f'{case}.json', published], check=True)
        output = succeed('convert_checkpoint', published, converted, cwd=tmp_path)
        model = init_model(str(ROOT / 'configs' / config), str(converted), device='cpu')
    finally:  # pytest keeps the folders of three runs
        published.unlink(missing_ok=True)
        converted.unlink(missing_ok=True)
    for line in (report, '8 contexts, 13 text positions', '3 layers, width 256', 'classes', '150'):
        assert line in output
    assert len(model.dataset_meta['classes']) == 150
    assert model.dataset_meta['palette'] == get_palette('ade20k')

    ours = everything(model, side, num_classes=150)
    with np.load(reference / f'{case}.npz') as theirs:
        assert set(theirs.files) == ours.keys()
        errors = {name: relative_error(ours[name], theirs[name]) for name in theirs.files}
    assert {name: error for name, error in errors.items() if error > 1e-4} == {}


# Other sizes

NUM_CLASSES = 7
NAMES = [f'class {index}' for index in range(NUM_CLASSES)]  # 20 positions are what these need
TEXT = dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=2)
CLIPS = {
    'resnet': dict(embed_dim=48, quick_gelu=True, text_cfg=TEXT, vision_cfg=dict(
        layers=[1, 2, 1, 1], width=8, image_size=96)),
    'vit': dict(embed_dim=48, quick_gelu=True, text_cfg=TEXT, vision_cfg=dict(
        layers=6, width=64, patch_size=8, image_size=32)),
}
BACKBONES = {
    'resnet': dict(type='CLIPResNet', model=CLIPS['resnet']),
    'vit': dict(type='CLIPVisionTransformer', model=CLIPS['vit'], out_indices=(1, 2, 3, 5)),
}
# Our names and the published ones, most special first.
RENAMED = {
    'backbone.pyramid.0.': 'backbone.fpn1.',
    'backbone.pyramid.1.': 'backbone.fpn2.',
    'backbone.pyramid.2.0.': 'backbone.fpn3.',
    'backbone.pyramid.3.': 'backbone.fpn4.',
    'backbone.tower.': 'backbone.',
    'neck.prompt.contexts': 'contexts',
    'neck.gamma': 'gamma',
    'neck.text_encoder.tower.': 'text_encoder.',
    'neck.context_decoder.layers.': 'context_decoder.decoder.',
    'neck.context_decoder.': 'context_decoder.',
    'neck.neck.': 'neck.',
    'decode_head.': 'decode_head.',
}


def build(kind: str) -> nn.Module:
    """A model of no published size, random in every tensor."""
    torch.manual_seed(0)
    index, channels = (3, [32, 64, 128, 256]) if kind == 'resnet' else (2, [64] * 4)
    model = MODELS.build(dict(
        type='EncoderDecoder', backbone=BACKBONES[kind],
        neck=dict(
            type='PixelTextNeck', class_names=NAMES, score_map_index=index,
            text_encoder=dict(type='CLIPTextTower', model=CLIPS[kind]),
            prompt=dict(type='LearnedContext', num_context=16),
            context_decoder=dict(type='ContextDecoder', width=128, num_heads=2, num_layers=2),
            neck=dict(type='FPN', in_channels=channels, out_channels=16, num_outs=4)),
        decode_head=dict(type='FPNHead', in_channels=[16] * 4, in_index=[0, 1, 2, 3],
                         feature_strides=[4, 8, 16, 32], channels=12, num_classes=NUM_CLASSES,
                         norm_cfg=dict(type='BN')),
        auxiliary_head=dict(type='ScoreMapHead', in_index=4, num_classes=NUM_CLASSES))).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim < 2:
                noise = torch.rand(tensor.shape)
                tensor.copy_(noise - 0.5 if name.endswith(('bias', 'mean')) else noise + 0.5)
    return model


def publish(model: nn.Module) -> dict[str, Tensor]:
    """Its weights as the published code would have saved them: 20 text positions only."""
    published = {}
    for name, tensor in model.state_dict().items():
        if name.endswith('position_grid'):  # ours; theirs is square
            continue
        start = next(start for start in RENAMED if name.startswith(start))
        published[RENAMED[start] + name.removeprefix(start)] = tensor.clone()
    published['contexts'] = published['contexts'][None]
    rows = 'text_encoder.positional_embedding'
    published[rows] = published[rows][:20].clone()
    if 'backbone.class_embedding' in published:  # which the published code adds once more
        published['backbone.positional_embedding'][0] -= published['backbone.class_embedding']
    return published


@pytest.fixture(scope='module')
def resnet() -> nn.Module:
    return build('resnet')


@pytest.fixture
def published(resnet: nn.Module) -> dict[str, Tensor]:
    return publish(resnet)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('kind', CLIPS)
def test_other_sizes(kind: str, prefix: str, tmp_path: Path) -> None:
    source, target = build(kind), build(kind)
    torch.save(dict(state_dict={prefix + name: tensor for name, tensor in publish(source).items()}),
               tmp_path / 'published.pth')
    state, meta = read_state_dict(tmp_path / 'published.pth')
    untouched = deepcopy(state)
    checkpoint, config = convert(state, meta=meta)
    assert checkpoint['meta'] == {}
    for name, tensor in untouched.items():
        assert torch.equal(state[name], tensor), f'the input was changed: {name}'
    for parameter in target.parameters():
        nn.init.constant_(parameter, 0.5)
    models = [target, MODELS.build(config).eval()]
    for model in models:
        model.load_state_dict(checkpoint['state_dict'], strict=True)
        image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        if kind == 'vit' and model is models[1]:
            continue  # which blocks the maps leave after is written in no tensor
        with torch.no_grad():
            for ours, expected in zip(model.neck(model.backbone(image)),
                                      source.neck(source.backbone(image)), strict=True):
                torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(
                model.encode_decode(image, [dict(img_shape=(96, 96))]),
                source.encode_decode(image, [dict(img_shape=(96, 96))]), rtol=1e-4, atol=1e-4)


def test_published_vit_adds_the_class_embedding_twice() -> None:
    """In the published forward: to the token, and with the positions once again."""
    source = build('vit')
    state = publish(source)
    token = 2 * state['backbone.class_embedding'] + state['backbone.positional_embedding'][0]
    converted = convert(state)[0]['state_dict']
    torch.testing.assert_close(converted['backbone.tower.class_embedding']
                               + converted['backbone.tower.positional_embedding'][0], token)
    assert torch.equal(converted['backbone.tower.positional_embedding'][1:],
                       state['backbone.positional_embedding'][1:])


# Text positions


@pytest.fixture(scope='module')
def clip() -> open_clip.CLIP:
    torch.manual_seed(9)
    return open_clip.CLIP(**CLIPS['resnet'])


def test_longer_names_need_the_positions_of_clip(resnet: nn.Module, clip: open_clip.CLIP,
                                                 published: dict[str, Tensor], tmp_path: Path,
                                                 convert_file: Callable[..., str | None]) -> None:
    torch.save(published, tmp_path / 'src.pth')
    torch.save(clip.state_dict(), tmp_path / 'clip.pt')
    own = resnet.neck.text_encoder.tower.positional_embedding
    for rows, arguments in ((20, []), (77, ['--clip', tmp_path / 'clip.pt'])):
        assert convert_file(tmp_path / 'src.pth', tmp_path / 'dst.pth', *arguments) is None
        state = torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict']
        table = state['neck.text_encoder.tower.positional_embedding']
        assert len(table) == rows
        assert torch.equal(table[:20], own[:20])
        assert torch.equal(table[20:], clip.positional_embedding[20:rows])

        model = build('resnet')
        model.load_state_dict(state)
        longer = [*NAMES[:-1], 'chest of drawers']
        if rows == 77:
            model.neck.set_class_names(longer)
            assert model.neck.class_names == longer
        else:
            with pytest.raises(ValueError, match=r"'chest of drawers' with 16 contexts has 21 "
                               r'tokens, but .* takes 20; .*first 20 of .* with --clip'):
                model.neck.set_class_names(longer)


@pytest.mark.parametrize(('rows', 'got'), [
    (torch.zeros(77, 32), r'\(77, 32\)'), (torch.zeros(19, 64), r'\(19, 64\)'), (None, 'None')])
def test_positions_of_another_clip(rows: Tensor | None, got: str,
                                   published: dict[str, Tensor]) -> None:
    clip = {} if rows is None else {'text.positional_embedding': rows}
    with pytest.raises(ValueError, match=rf'CLIP weights have text positions {got}, the checkpoint '
                       r'\(20, 64\); give the weights of the CLIP it started from'):
        convert(published, clip=clip)


# Classes and palette


@pytest.mark.parametrize(('meta', 'expected'), [
    (dict(CLASSES=tuple(NAMES), PALETTE=np.arange(21).reshape(7, 3)),
     dict(classes=NAMES, palette=np.arange(21).reshape(7, 3).tolist())),
    (dict(CLASSES=()), None),
    (dict(), None),
    (None, None),
])
def test_dataset_meta(meta: dict | None, expected: dict | None,
                      published: dict[str, Tensor]) -> None:
    checkpoint, _ = convert(published, meta=meta)
    assert checkpoint['meta'] == ({} if expected is None else dict(dataset_meta=expected))


def test_names_must_be_as_many_as_the_tensors_have(published: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match='names 150 classes, but its tensors are for 7'):
        convert(published, meta=dict(CLASSES=get_classes('ade20k')))


@pytest.mark.parametrize('trim', [str, str.strip])
def test_palette_of_a_known_dataset(trim: Callable[[str], str]) -> None:
    assert _palette(list(map(trim, get_classes('ade20k'))), None) == get_palette('ade20k')


def test_palette_of_unknown_classes(published: dict[str, Tensor]) -> None:
    """Colours of their own, the same in every run."""
    results = [convert(published, meta=dict(CLASSES=NAMES))[0] for _ in range(2)]
    palette = results[0]['meta']['dataset_meta']['palette']
    assert len({tuple(colour) for colour in palette}) == NUM_CLASSES
    assert all(0 <= channel <= 255 for colour in palette for channel in colour)
    assert results[1]['meta'] == results[0]['meta']


# Refusals


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def having(**tensors: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    tensors = {name.replace('__', '.'): tensor for name, tensor in tensors.items()}
    return lambda state: {**state, **tensors}


@pytest.mark.parametrize(('change', 'message'), [
    (without('contexts'), "no published DenseCLIP checkpoint: it has no tensor "
     "'contexts'"),
    (without('context_decoder.memory_proj.1.weight'), 'no tensor .context_decoder.memory_proj.1'),
    (without('gamma'), r'not every tensor .* accounted for: .*Missing key.*"neck\.gamma"'),
    (without('backbone.layer2.1.bn3.running_mean'),
     r'Missing key.*"backbone\.tower\.layer2\.1\.bn3\.running_mean"'),
    (having(fc__weight=torch.zeros(2)), "has a tensor 'fc.weight' that published DenseCLIP"),
    (having(decode_head__extra=torch.zeros(2)), r'Unexpected key.*"decode_head\.extra"'),
    (lambda state: {**state, 'gamma': state['gamma'].long()},
     r'holds numbers of another kind than the model \(1 tensors: neck\.gamma is int64, not'),
    (lambda state: {**state, 'gamma': state['gamma'] / 0}, 'holds NaN or infinite weights'),
    (having(gamma=torch.zeros(47)), r'size mismatch for neck\.gamma'),
    (having(contexts=torch.zeros(7, 16, 64)), r'contexts are \(7, 16, 64\); published unified'),
    (having(contexts=torch.zeros(16, 64)), r'contexts are \(16, 64\); published unified'),
    (lambda state: {'conv1.weight': torch.zeros(64, 3, 7, 7), 'fc.bias': torch.zeros(1000)},
     r"no tensor 'contexts' \(it starts with \['conv1.weight', 'fc.bias'\]\)"),
    (lambda state: {}, "no tensor 'contexts'"),
    (lambda state: {'contexts': 'words'}, 'holds other things than tensors'),
])
def test_other_checkpoints(change: Callable, message: str, published: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        convert(change(published))


class Malicious:
    """Runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        """Touch the path."""
        return Path.touch, (self.path, )


def write(path: Path, content: object) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'there is no checkpoint'),
    (b'', 'is no checkpoint: it is empty'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'is a pointer of Git LFS'),
    ([torch.zeros(2)], 'it holds no state dict'),
    (torch.zeros(2), 'it holds no state dict'),
    (dict(state_dict={'fc.weight': torch.zeros(2)}), 'no published DenseCLIP'),
    (dict(state_dict='elsewhere'), 'it holds no state dict'),
])
def test_failure_leaves_the_target_alone(content: object, message: str, tmp_path: Path,
                                         convert_file: Callable[..., str | None]) -> None:
    source, target = tmp_path / 'source.pth', tmp_path / 'target.pth'
    write(source, content)
    target.write_bytes(b'of an earlier run')
    error = convert_file(source, target)
    assert error.startswith(f'error: cannot convert {source}: ')
    assert message in error
    assert target.read_bytes() == b'of an earlier run'
    assert {path.name for path in tmp_path.iterdir()} <= {'source.pth', 'target.pth'}


@pytest.mark.parametrize('save', [torch.save, lambda content, path: path.write_bytes(
    pickle.dumps(content, protocol=2))], ids=['torch.save', 'pickle'])
def test_code_in_a_checkpoint_does_not_run(save: Callable, published: dict[str, Tensor],
                                           tmp_path: Path,
                                           convert_file: Callable[..., str | None]) -> None:
    source, mark = tmp_path / 'source.pth', tmp_path / 'mark'
    save(dict(state_dict=published, meta=Malicious(mark)), source)
    assert 'run code when it is loaded' in convert_file(source, tmp_path / 'target.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['source.pth']


def test_truncated_file(published: dict[str, Tensor], tmp_path: Path,
                        convert_file: Callable[..., str | None]) -> None:
    source = tmp_path / 'source.pth'
    torch.save(published, source)
    source.write_bytes(source.read_bytes()[:-1000])
    assert 'cannot convert' in convert_file(source, tmp_path / 'target.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['source.pth']


@pytest.mark.parametrize('target', ['folder', 'source.pth/target.pth'])
def test_target_that_cannot_be_written(target: str, published: dict[str, Tensor], tmp_path: Path,
                                       convert_file: Callable[..., str | None]) -> None:
    source = tmp_path / 'source.pth'
    torch.save(published, source)
    (tmp_path / 'folder').mkdir()
    assert 'cannot convert' in convert_file(source, tmp_path / target)
    assert {path.name for path in tmp_path.iterdir()} == {'source.pth', 'folder'}


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'there is no file of CLIP weights'),
    (b'no weights', 'is no file of CLIP weights: it is a text'),
    ({'positional_embedding': torch.zeros(77, 32), 'text_projection': torch.zeros(32, 24)},
     'text positions (77, 32), the checkpoint'),
    ({'fc.weight': torch.zeros(2)}, 'text positions None'),
])
def test_faulty_clip_weights(content: object, message: str, published: dict[str, Tensor],
                             tmp_path: Path, convert_file: Callable[..., str | None]) -> None:
    source, clip = tmp_path / 'source.pth', tmp_path / 'clip.pt'
    torch.save(published, source)
    write(clip, content)
    assert message in convert_file(source, tmp_path / 'target.pth', '--clip', clip)
    assert not (tmp_path / 'target.pth').exists()


def test_exit_code(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(TOOL), 'no/such.pth', str(tmp_path / 'target.pth')], check=False,
        capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[-1] == (
        "error: cannot convert no/such.pth: there is no checkpoint 'no/such.pth' "
        f'(looked from {Path.cwd()})')
    assert 'Traceback' not in process.stderr


def test_unconverted_checkpoints_are_refused_by_the_model(published: dict[str, Tensor],
                                                          tmp_path: Path) -> None:
    """Whereas mmengine alone would warn, and leave the model random."""
    path = tmp_path / 'published.pth'
    torch.save(dict(meta={}, state_dict=published), path)
    with pytest.raises(ValueError, match=r'published one for mmseg 0\.x.*convert_checkpoint'):
        load_checkpoint(build('resnet'), str(path))
