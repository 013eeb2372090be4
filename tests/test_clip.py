"""CLIP weights: every layout gives the same tower, and what does not fit is refused whole."""

import logging
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

from denseclip_mm.backbones import CLIPResNet, CLIPVisionTransformer
from denseclip_mm.clip import clip_config, load_tower, read_file, read_weights
from denseclip_mm.positions import resize_position_table
from denseclip_mm.text import CLIPTextTower

import open_clip
import pytest
import torch
from huggingface_hub.utils import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]
MARKS = {'input_resolution': torch.tensor(64), 'context_length': torch.tensor(77),
         'vocab_size': torch.tensor(49408)}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that would fetch weights fails (pytest.fail is no Exception, so nothing hides it)."""
    monkeypatch.setattr(open_clip, 'download_pretrained',
                        lambda *args, **kwargs: pytest.fail('the network was asked for weights'))


@pytest.fixture
def vit(tiny_vit) -> open_clip.CLIP:
    return random_clip(tiny_vit)


@pytest.fixture
def archive(vit, tmp_path) -> str:
    """An archive such as OpenAI's of the tiny ViT."""
    write_torchscript(vit.state_dict(), tmp_path / 'ViT-tiny.pt')
    return str(tmp_path / 'ViT-tiny.pt')


def random_clip(config: dict) -> open_clip.CLIP:
    """A CLIP model of which no tensor, not even a bias or a running mean, is a constant."""
    torch.manual_seed(0)
    clip = open_clip.CLIP(**config)
    for tensor in clip.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)
    return clip


def text_of(clip: open_clip.CLIP) -> State:
    return {key: value for key, value in clip.state_dict().items()
            if key != 'logit_scale' and not key.startswith('visual.')}


def visual_of(clip: open_clip.CLIP) -> State:
    return clip.visual.state_dict()


def halved(state: State) -> State:
    return {key: value.half() if value.is_floating_point() else value
            for key, value in state.items()}


def write_torchscript(state: State, path: Path) -> None:
    """A TorchScript archive of a state dict in fp16, with OpenAI's three marks."""
    root = nn.Module()
    for key, value in {**halved(state), **MARKS}.items():
        *parents, name = key.split('.')
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = dict(module.named_children())[parent]
        module.register_buffer(name, value)
    torch.jit.save(torch.jit.script(root), path)


def custom_layout(state: State) -> State:
    """The state dict of open_clip's CustomTextCLIP, with the weights of a CLIP."""
    config = dict(width=32, heads=2, layers=2)
    custom = open_clip.CustomTextCLIP(24, dict(layers=1, width=64, head_width=32), config)
    text = {key: state[key] for key in custom.text.state_dict()}
    other = {key: value for key, value in state.items()
             if key.startswith('visual.') or key == 'logit_scale'}
    return {**{f'text.{key}': value for key, value in text.items()}, **other}


LAYOUTS: dict[str, tuple[str, Callable[[State, Path], None]]] = {
    'open_clip': ('.pt', torch.save),
    'open_clip, fp16': ('.pt', lambda state, path: torch.save(halved(state), path)),
    'before torch 1.6': ('.bin', lambda state, path: torch.save(
        state, path, _use_new_zipfile_serialization=False)),
    'safetensors': ('.safetensors', save_file),
    'wrapped': ('.pt', lambda state, path: torch.save({'epoch': 3, 'state_dict': state}, path)),
    'DDP': ('.pt', lambda state, path: torch.save(
        {f'module.{key}': value for key, value in state.items()}, path)),
    'training run': ('.pt', lambda state, path: torch.save(
        {'name': 'run', 'optimizer': {'step': 1},
         'state_dict': {f'module.{key}': value for key, value in state.items()}}, path)),
    'CustomTextCLIP': ('.pt', lambda state, path: torch.save(custom_layout(state), path)),
    'OpenAI': ('.pt', write_torchscript),
    'OpenAI, unpacked': ('.pt', lambda state, path: torch.save(
        {**halved(state), **MARKS}, path)),
}


def assert_holds(tower: nn.Module, expected: State) -> None:
    """The tower's tensors are those expected, bit for bit, in float32."""
    own = tower.state_dict()
    own.pop('attnpool.position_grid', None)  # the pool's own
    assert own.keys() == expected.keys()
    for key, value in own.items():
        assert value.dtype == (torch.float32 if expected[key].is_floating_point() else torch.int64)
        assert torch.equal(value, expected[key].to(value.dtype)), key


# --- layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_gives_the_same_towers(vit, tiny_vit, tmp_path, layout):
    suffix, write = LAYOUTS[layout]
    path = tmp_path / f'weights{suffix}'
    write(vit.state_dict(), path)
    rounded = halved if layout.startswith('OpenAI') or layout.endswith('fp16') else dict

    text = CLIPTextTower(model=tiny_vit, pretrained=str(path))
    text.init_weights()
    assert_holds(text.tower, rounded(text_of(vit)))

    image = CLIPVisionTransformer(model=tiny_vit, pretrained=str(path), out_indices=(0, 1, 2, 3))
    image.init_weights()
    assert_holds(image.tower, rounded(visual_of(vit)))


@pytest.mark.parametrize('with_embeddings', [True, False])
@pytest.mark.parametrize('layout', ['open_clip', 'OpenAI'])
def test_resnet(tiny_resnet, tmp_path, layout, with_embeddings):
    clip = random_clip(tiny_resnet)
    LAYOUTS[layout][1](clip.state_dict(), tmp_path / 'RN-tiny.pt')
    backbone = CLIPResNet(model=tiny_resnet, pretrained=str(tmp_path / 'RN-tiny.pt'),
                          with_embeddings=with_embeddings)
    backbone.init_weights()
    expected = visual_of(clip) if layout == 'open_clip' else halved(visual_of(clip))
    assert_holds(backbone.tower, {key: value for key, value in expected.items()
                                  if with_embeddings or not key.startswith('attnpool.')})


def test_loaded_archive_computes_what_open_clip_computes(vit, archive, tiny_vit):
    """The numbers follow from the weights: no other switch differs from open_clip's model."""
    vit.load_state_dict(halved(vit.state_dict()))
    backbone = CLIPVisionTransformer(model=tiny_vit, pretrained=archive, out_indices=(0, 1, 2, 3))
    backbone.init_weights()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        embedding, _ = backbone.eval()(images)[-1]
        expected = vit.eval().encode_image(images)
    assert (embedding - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_home_folder_in_the_path(vit, tiny_vit, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(vit.state_dict(), tmp_path / 'clip.pt')
    assert read_weights(tiny_vit, '~/clip.pt').keys() == read_file(tmp_path / 'clip.pt')[0].keys()


def test_nothing_is_read_before_init_weights(tiny_vit, tiny_resnet, tmp_path):
    missing = str(tmp_path / 'missing.pt')
    modules = [
        CLIPTextTower(model=tiny_vit, pretrained=missing),
        CLIPVisionTransformer(model=tiny_vit, pretrained=missing, out_indices=(0, 1, 2, 3)),
        CLIPResNet(model=tiny_resnet, pretrained=missing)]
    for module in modules:
        with pytest.raises(FileNotFoundError, match=r'missing\.pt.*neither a file nor.*\(none\)'):
            module.init_weights()


@pytest.mark.parametrize(('dtype', 'fits'), [
    (torch.float16, True), (torch.bfloat16, True), (torch.float64, True), (torch.int8, False),
    (torch.float8_e4m3fn, False)])
@pytest.mark.parametrize('suffix', ['pt', 'safetensors'])
def test_weights_of_other_precisions(tiny_resnet, tmp_path, dtype, fits, suffix):
    """Whole numbers that count, as of batch norm, stay; those of a quantised matrix do not fit."""
    clip = random_clip(tiny_resnet)
    state = {key: value.to(dtype) if value.is_floating_point() else value
             for key, value in clip.state_dict().items()}
    assert any(value.dtype == torch.long for value in state.values())
    if not fits:
        state |= {'visual.conv1.weight_scale': torch.ones(1), 'transformer.scale': torch.ones(1)}
    path = str(tmp_path / f'clip.{suffix}')
    (save_file if suffix == 'safetensors' else torch.save)(state, path)
    for kind in (CLIPTextTower, CLIPResNet):
        tower = kind(model=tiny_resnet, pretrained=path)
        before = deepcopy(tower.state_dict())
        if fits:
            tower.init_weights()
            continue
        with pytest.raises(ValueError, match=r'clip\.\w+ holds quantised weights \(\d+ tensors: .*'
                                             r'\); take those of 16 or 32 bits$'):
            tower.init_weights()
        assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())


@pytest.mark.parametrize('dtype', [torch.int32, torch.bool, torch.complex64])
def test_weights_that_are_other_numbers(tiny_vit, tmp_path, dtype):
    path = str(tmp_path / 'clip.pt')
    torch.save({key: value.to(dtype) for key, value in random_clip(tiny_vit).state_dict().items()},
               path)
    for kind in (CLIPTextTower, CLIPVisionTransformer):
        tower = kind(model=tiny_vit, pretrained=path)
        before = deepcopy(tower.state_dict())
        with pytest.raises(ValueError, match=r'clip\.pt holds numbers of another kind than the '
                                             rf'model \(\d+ tensors: \S+ is {str(dtype)[6:]}, '):
            tower.init_weights()
        assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())


# --- tags ----------------------------------------------------------------------------------------


def test_tag_is_fetched_and_read(vit, archive, monkeypatch):
    asked = []
    monkeypatch.setattr(open_clip, 'download_pretrained', lambda tag: asked.append(tag) or archive)
    state = read_weights('RN50-quickgelu', 'openai')
    assert [tag['hf_hub'] for tag in asked] == [
        'timm/resnet50_clip.openai/open_clip_model.safetensors']
    text = {f'text.{key}' for key in text_of(vit)}
    assert state.keys() == text | {f'visual.{key}' for key in visual_of(vit)} | {'logit_scale'}
    assert torch.equal(state['text.text_projection'], vit.text_projection.half())


@pytest.mark.parametrize('model', ['RN50-quickgelu', 'ViT-B-32'])
def test_neither_file_nor_tag_lists_the_tags(model):
    tags = open_clip.list_pretrained_tags_by_model(model)
    assert 'openai' in tags
    message = re.escape(f"pretrained='openia' is neither a file nor one of the tags that open_clip "
                        f'has for {model!r} ({", ".join(tags)})')
    with pytest.raises(FileNotFoundError, match=message):
        read_weights(model, 'openia')


@pytest.mark.parametrize('error', [OSError('no route'), RuntimeError('checksum'), KeyError()])
def test_weights_that_cannot_be_fetched(monkeypatch, error):
    def fail(tag):
        raise error

    monkeypatch.setattr(open_clip, 'download_pretrained', fail)
    with pytest.raises(FileNotFoundError, match='Without a network: fetch them') as caught:
        read_weights('RN50-quickgelu', 'openai')
    message = str(caught.value)
    assert f'from timm/resnet50_clip.openai/ ({type(error).__name__})' in message
    assert "open_clip.create_model('RN50-quickgelu', pretrained='openai')" in message
    assert message.endswith('copy the file, and give its path as pretrained=')
    assert caught.value.__cause__ is error


def test_without_a_network_nothing_is_asked_twice(vit, archive, monkeypatch):
    """Its client tries a file for 23 seconds; what was fetched before is taken then."""
    asked, logger = [], logging.getLogger('huggingface_hub.utils._http')

    def fail(tag):
        asked.append(tag['hf_hub'])
        assert not logger.isEnabledFor(logging.WARNING)
        try:
            raise LocalEntryNotFoundError('no file') from ConnectionResetError('by peer')
        except LocalEntryNotFoundError as error:
            raise FileNotFoundError(f'Failed to download file. Last error: {error}')  # noqa: B904

    monkeypatch.setattr(open_clip, 'download_pretrained', fail)
    for model, pretrained, name in (
            ('RN50-quickgelu', 'openai', 'timm/resnet50_clip.openai'),
            (clip_config('RN50-quickgelu'), 'hf-hub:maker/clip', 'maker/clip')):
        with pytest.raises(FileNotFoundError, match=(
                r'could not be fetched from .* \(no network: ConnectionResetError\)')) as caught:
            read_weights(model, pretrained)
        assert len(str(caught.value).splitlines()) == 1
        assert asked == [f'{name}/open_clip_model.safetensors']
        asked.clear()
        with monkeypatch.context() as change:
            change.setattr('denseclip_mm.clip.hub.try_to_load_from_cache', lambda name, file: (
                archive if file.endswith('.bin') else None))
            assert 'visual.proj' in read_weights(model, pretrained)
        assert len(asked) == 1 + pretrained.startswith('hf-hub:')  # one description
        asked.clear()
    assert logger.isEnabledFor(logging.WARNING)


# --- activation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(('model', 'pretrained', 'cure'), [
    ('RN50', 'openai', "use model='RN50-quickgelu'"),
    ('ViT-B-16', 'openai', "use model='ViT-B-16-quickgelu'"),
    ('ViT-B-32', 'laion400m_e32', "use model='ViT-B-32-quickgelu'"),
    ('RN50', 'archive.pt', "use model='RN50-quickgelu'"),
    ('ViT-L-14', 'unpacked.pt', "use model='ViT-L-14-quickgelu'"),
    ('convnext_base', 'archive.pt', 'set quick_gelu=True in the model config'),  # has no such twin
    ('tiny', 'archive.pt', 'set quick_gelu=True in the model config'),
    ('tiny', 'unpacked.pt', 'set quick_gelu=True in the model config'),
])
def test_quick_gelu_weights_in_a_gelu_model(
        vit, tiny_vit, tmp_path, monkeypatch, model, pretrained, cure):
    """Refused before a tag is fetched, and before the tower is touched."""
    monkeypatch.chdir(tmp_path)
    LAYOUTS['OpenAI'][1](vit.state_dict(), tmp_path / 'archive.pt')
    LAYOUTS['OpenAI, unpacked'][1](vit.state_dict(), tmp_path / 'unpacked.pt')
    tiny_vit['quick_gelu'] = False
    with pytest.raises(ValueError, match=f'trained with QuickGELU, but .* computes GELU; {cure}'):
        load_tower(nn.Module(), 'text', model=tiny_vit if model == 'tiny' else model,
                   pretrained=pretrained)


def test_gelu_weights_in_a_quick_gelu_model():
    """A tag whose metadata in open_clip contradict the model's; there is no other name to use."""
    with pytest.raises(ValueError, match=r'trained with GELU, but .* computes QuickGELU; set '
                                         'quick_gelu=False in the model config'):
        read_weights('roberta-ViT-B-32', 'laion2b_s12b_b32k')


@pytest.mark.parametrize('quick_gelu', [True, False])
def test_a_plain_state_dict_does_not_tell_its_activation(vit, tiny_vit, tmp_path, quick_gelu):
    torch.save(vit.state_dict(), tmp_path / 'clip.pt')
    tower = CLIPTextTower(model={**tiny_vit, 'quick_gelu': quick_gelu},
                          pretrained=str(tmp_path / 'clip.pt'))
    tower.init_weights()
    assert_holds(tower.tower, text_of(vit))


@pytest.mark.parametrize(('model', 'said'), [
    ('ViT-B-16', "computes GELU; if it was QuickGELU, as in OpenAI's weights, use "
                 "model='ViT-B-16-quickgelu'"),
    ('ViT-B-16-quickgelu', "computes QuickGELU; if it was GELU, as in most of open_clip's own "
                           "weights, use model='ViT-B-16'"),
    ('EVA02-B-16', None)])
def test_a_plain_state_dict_under_a_name_that_has_a_twin(vit, tmp_path, caplog, model, said):
    """Nothing in the file can decide, so the user is told what to check."""
    torch.save(vit.state_dict(), tmp_path / 'clip.pt')
    read_weights(model, str(tmp_path / 'clip.pt'))
    assert (said in caplog.text) if said else not caplog.text


# --- weights that do not fit ---------------------------------------------------------------------


@pytest.mark.parametrize(('half', 'change'), [
    ('text_cfg', dict(layers=3)),
    ('text_cfg', dict(layers=1)),
    ('text_cfg', dict(width=64)),
    ('vision_cfg', dict(layers=5)),
    ('vision_cfg', dict(width=96)),
    ('vision_cfg', dict(patch_size=8)),
    ('vision_cfg', dict(layers=[1, 1, 1, 1], width=8)),
])
def test_another_architecture_is_refused_whole(vit, tiny_vit, tmp_path, half, change):
    other = deepcopy(tiny_vit)
    other[half].update(change)
    stranger = random_clip(other)
    torch.save(stranger.state_dict(), tmp_path / 'other.pt')
    options = dict(model=tiny_vit, pretrained=str(tmp_path / 'other.pt'))
    if half == 'text_cfg':
        module, part = CLIPTextTower(**options), 'text'
        theirs, ours = text_of(stranger), text_of(vit)
    else:
        module, part = CLIPVisionTransformer(**options, out_indices=(0, 1, 2, 3)), 'visual'
        theirs, ours = visual_of(stranger), visual_of(vit)
    theirs = {key: value.shape for key, value in theirs.items()}
    ours = {key: value.shape for key, value in ours.items()}
    if part == 'visual' and 'positional_embedding' in theirs:  # its rows are resized to the grid
        theirs['positional_embedding'] = torch.Size(
            [ours['positional_embedding'][0], theirs['positional_embedding'][1]])
    faults = len(theirs.keys() ^ ours.keys()) + sum(
        theirs[key] != ours[key] for key in theirs.keys() & ours.keys())
    assert faults

    before = deepcopy(module.state_dict())
    message = (rf'other\.pt.* does not hold the {part} tower of the given model config: {faults} '
               'tensors do not fit')
    with pytest.raises(ValueError, match=message):
        module.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_message_names_the_model_and_the_first_faults(tmp_path):
    torch.save({'text.weight': torch.zeros(2, 3), 'text.extra': torch.zeros(1),
                'visual.extra': torch.zeros(1)}, tmp_path / 'clip.pt')
    tower = nn.Linear(2, 2)
    with pytest.raises(ValueError) as caught:
        load_tower(tower, 'text', model='ViT-B-16', pretrained=str(tmp_path / 'clip.pt'))
    assert ('the text tower of ViT-B-16: 3 tensors do not fit (bias is missing; extra is not part '
            'of the model; weight is (2, 3), the model has (2, 2))') in str(caught.value)


@pytest.mark.parametrize(('unused', 'fits'), [((), False), (('head.', ), True), (('he', ), True)])
def test_weights_the_tower_was_built_without(tmp_path, unused, fits):
    weight = torch.randn(2, 2)
    torch.save({'visual.weight': weight, 'visual.head.bias': torch.zeros(1)}, tmp_path / 'clip.pt')
    tower = nn.Linear(2, 2, bias=False)
    options = dict(model='ViT-B-16', pretrained=str(tmp_path / 'clip.pt'), unused=unused)
    if fits:
        load_tower(tower, 'visual', **options)
        assert torch.equal(tower.weight, weight)
    else:
        with pytest.raises(ValueError, match=r'1 tensors do not fit \(head\.bias is not'):
            load_tower(tower, 'visual', **options)


# --- files that are no weights -------------------------------------------------------------------


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        """What pickle calls, with which arguments."""
        return os.mkdir, (str(self.folder), )


@pytest.mark.parametrize('suffix', ['.pt', '.bin', '.safetensors'])
@pytest.mark.parametrize('content', [
    b'', b'hello\n' * 100, b'PK\x03\x04', b'\x80\x02.', b'version https://git-lfs.github.com'])
def test_bytes_that_are_no_weights(tmp_path, content, suffix):
    path = tmp_path / f'weights{suffix}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'weights{suffix} is no file of CLIP weights: it '):
        read_file(path)


@pytest.mark.parametrize(('content', 'message'), [
    ({}, 'is no file of CLIP weights: it holds no state dict'),
    ({'state_dict': {}}, 'holds no state dict'),
    ([torch.zeros(1)], 'holds no state dict'),
    ({0: torch.zeros(1)}, 'holds no state dict'),
    ({'epoch': 3, 'model': {'weight': torch.zeros(1)}}, 'holds other things than tensors'),
])
def test_objects_that_are_no_state_dict(tmp_path, content, message):
    torch.save(content, tmp_path / 'weights.pt')
    with pytest.raises(ValueError, match=message):
        read_file(tmp_path / 'weights.pt')


def test_broken_archives(archive, tmp_path):
    whole = Path(archive).read_bytes()
    Path(archive).write_bytes(whole[:len(whole) // 2])
    with zipfile.ZipFile(tmp_path / 'zip.pt', 'w') as file:
        file.writestr('zip/constants.pkl', b'nothing')
    for path in (archive, tmp_path / 'zip.pt'):
        with pytest.raises(ValueError, match='is no file of CLIP weights: it is '):
            read_file(path)


def test_torchscript_of_something_else(tiny_vit, tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / 'linear.pt')
    tower = CLIPTextTower(model=tiny_vit, pretrained=str(tmp_path / 'linear.pt'))
    with pytest.raises(ValueError, match='holds no text tower of a CLIP; its tensors are '
                                         'weight, bias'):
        tower.init_weights()


@pytest.mark.parametrize('write', [
    torch.save,
    lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    lambda state, path: path.write_bytes(pickle.dumps(state, protocol=2)),
], ids=['zip', 'legacy', 'pickle'])
@pytest.mark.parametrize('wrapped', [True, False])
def test_code_in_a_file_is_not_run(tiny_vit, tmp_path, write, wrapped):
    made = tmp_path / 'made'
    payload = {'weight': torch.zeros(1), 'x': Payload(made)} if wrapped else Payload(made)
    write(payload, tmp_path / 'weights.pt')
    tower = CLIPTextTower(model=tiny_vit, pretrained=str(tmp_path / 'weights.pt'))
    with pytest.raises(ValueError, match='run code when it is loaded, so it was not'):
        tower.init_weights()
    assert not made.exists()
    pickle.loads(pickle.dumps(payload))  # the payload works where pickles are trusted
    assert made.exists()


# --- position tables -----------------------------------------------------------------------------


@pytest.mark.parametrize(('source', 'grid', 'expected'), [
    # Centres of the new cells on the old ones, clipped to the first and last old centre.
    ((1, 4), (1, 8), [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]),
    ((4, 1), (8, 1), [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]),
    ((1, 4), (1, 2), [0.5, 2.5]),
    ((1, 4), (2, 4), [0, 1, 2, 3] * 2),
    ((4, 1), (4, 2), [0, 0, 1, 1, 2, 2, 3, 3]),
    (None, (2, 4), [0, 0.25, 0.75, 1, 2, 2.25, 2.75, 3]),
    (None, (4, 2), [0, 1, 0.5, 1.5, 1.5, 2.5, 2, 3]),
    (None, (2, 2), [0, 1, 2, 3]),
    (None, (1, 1), [1.5]),
])
def test_a_ramp_resized_by_hand(source, grid, expected):
    ramp = torch.arange(4.)
    table = torch.cat([torch.tensor([-7.]), ramp])[:, None] * torch.tensor([1., 10.])
    resized = resize_position_table(table, grid, source)
    column = torch.tensor([-7., *expected])
    torch.testing.assert_close(resized, column[:, None] * torch.tensor([1., 10.]))


@pytest.mark.parametrize(('rows', 'source'), [(4, None), (9, None), (7, (2, 2)), (6, (2, 3))])
def test_a_table_that_is_not_of_its_grid(rows, source):
    with pytest.raises(ValueError, match=f'of {rows} rows is not 1'):
        resize_position_table(torch.zeros(rows, 8), (4, 4), source)


@pytest.mark.parametrize('image_size', [64, 128, (64, 160)])
@pytest.mark.parametrize(('kind', 'stride', 'layout'), [
    ('resnet', 32, 'OpenAI'), ('vit', 16, 'open_clip'), ('vit', 16, 'OpenAI')])
def test_position_table_is_resized_when_weights_load(
        tiny_resnet, tiny_vit, tmp_path, kind, stride, layout, image_size):
    config = dict(resnet=tiny_resnet, vit=tiny_vit)[kind]
    clip = random_clip(config)
    path = tmp_path / 'clip.pt'
    LAYOUTS[layout][1](clip.state_dict(), path)
    options = dict(model=config, pretrained=str(path), image_size=image_size)
    backbone = (CLIPResNet(**options) if kind == 'resnet' else
                CLIPVisionTransformer(**options, out_indices=(0, 1, 2, 3)))
    backbone.init_weights()

    state = visual_of(clip) if layout == 'open_clip' else halved(visual_of(clip))
    expected = {key: value.float() if value.is_floating_point() else value
                for key, value in state.items()}
    key = 'attnpool.positional_embedding' if kind == 'resnet' else 'positional_embedding'
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    side = 64 // stride
    cells = expected[key][1:].T.reshape(1, -1, side, side)
    cells = F.interpolate(cells, (height // stride, width // stride), mode='bilinear')
    rows = torch.cat([expected[key][:1], cells.flatten(2)[0].T])
    assert rows.shape[0] == 1 + height * width // stride**2
    torch.testing.assert_close(backbone.tower.state_dict()[key], rows, rtol=1e-6, atol=1e-7)
    assert_holds(backbone.tower, {**expected, key: backbone.tower.state_dict()[key]})
    grid = next(value for name, value in backbone.state_dict().items()
                if name.endswith('position_grid'))
    assert grid.tolist() == [height // stride, width // stride]


def test_text_positions_are_not_resized(vit, tiny_vit, tmp_path):
    tiny_vit['text_cfg']['context_length'] = 16
    torch.save(vit.state_dict(), tmp_path / 'clip.pt')
    tower = CLIPTextTower(model=tiny_vit, pretrained=str(tmp_path / 'clip.pt'))
    with pytest.raises(ValueError, match='trained with a context of 77 tokens, the text tower of '
                                         'the given model config takes 16; give as model'):
        tower.init_weights()
