"""Files of CLIP weights as they lie around: layouts of others, folders, names on the hub."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from denseclip_mm.apis.checkpoints.export import save_without_text_tower
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.backbones import CLIPTIMMBackbone, CLIPVisionTransformer
from denseclip_mm.clip import clip_config, load_tower, normalisation, read_file, read_weights
from denseclip_mm.demo.scenes import draw
from denseclip_mm.text import CLIPTextTower, grow_trees

import open_clip
import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import nn

transformers = pytest.importorskip('transformers')
ROOT = Path(__file__).resolve().parents[1]
TEXT = dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=128, bos_token_id=97, eos_token_id=98)
IMAGE = dict(num_attention_heads=2, num_hidden_layers=4, image_size=64, patch_size=16)
PROMPTS = [[97, 3, 4, 5, 98], [97, 9, 98]]


def random(model: nn.Module) -> nn.Module:
    """The model, none of its tensors a constant."""
    torch.manual_seed(1)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.normal_(std=0.1 if value.ndim > 1 else 0.3)
    return model.eval()


def a_clip(activation: str = 'quick_gelu') -> tuple[nn.Module, dict]:
    """A CLIP of transformers, and open_clip's config of it."""
    config = transformers.CLIPConfig(
        projection_dim=24, text_config=dict(TEXT, max_position_embeddings=77, projection_dim=24,
                                            hidden_act=activation),
        vision_config=dict(IMAGE, hidden_size=64, intermediate_size=256, hidden_act=activation))
    ours = dict(embed_dim=24, quick_gelu=activation == 'quick_gelu',
                text_cfg=dict(context_length=77, vocab_size=99, width=32, heads=2, layers=2),
                vision_cfg=dict(image_size=64, layers=4, width=64, head_width=32, patch_size=16))
    return random(transformers.CLIPModel(config)), ours


def a_siglip(timm_clip: Callable[[str], dict]) -> tuple[nn.Module, dict]:
    """A SigLIP of transformers, and open_clip's config of it."""
    config = transformers.SiglipConfig(
        text_config=dict(TEXT, max_position_embeddings=16, projection_size=24,
                         hidden_act='gelu_pytorch_tanh'),
        vision_config=dict(IMAGE, hidden_size=24, intermediate_size=96, hidden_act='gelu'))
    text = dict(open_clip.get_model_config('ViT-B-16-SigLIP2')['text_cfg'], context_length=16,
                vocab_size=99, width=32, heads=2, layers=2)
    return random(transformers.SiglipModel(config)), dict(timm_clip('siglip'), text_cfg=text)


def embed(model: nn.Module, texts: list[list[int]], pixels: torch.Tensor) -> list[torch.Tensor]:
    """What transformers computes."""
    with torch.no_grad():
        text = [model.get_text_features(input_ids=torch.tensor([text])) for text in texts]
        image = model.get_image_features(pixel_values=pixels)
    return [torch.cat([each.pooler_output for each in text]), image.pooler_output]


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


# --- layouts of transformers ---------------------------------------------------------------------


@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
def test_clip_of_transformers(tmp_path, activation):
    model, config = a_clip(activation)
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    expected_text, expected_image = embed(model, PROMPTS, images)
    for source in (tmp_path, f'local-dir:{tmp_path}', tmp_path / 'model.safetensors'):
        text = CLIPTextTower(model=config, pretrained=str(source))
        text.init_weights()
        image = CLIPVisionTransformer(model=config, pretrained=str(source))
        image.init_weights()
        with torch.no_grad():
            assert_close(text(grow_trees(PROMPTS))[0], expected_text)
            assert_close(image.eval()(images)[-1][0], expected_image)


def test_a_clip_in_parts(tmp_path, monkeypatch):
    """As transformers cuts a large one; a folder, its list, and a name on the hub."""
    model, config = a_clip()
    model.save_pretrained(tmp_path / 'whole')
    model.save_pretrained(tmp_path / 'cut', max_shard_size='100KB')
    index = tmp_path / 'cut/model.safetensors.index.json'
    parts = sorted(path.name for path in (tmp_path / 'cut').glob('*.safetensors'))
    assert len(parts) > 2
    expected = read_weights(config, str(tmp_path / 'whole'))
    asked = []

    def download(cfg):
        asked.append(name := cfg['hf_hub'].removeprefix('maker/clip/'))
        if not (tmp_path / 'cut' / name).is_file():
            raise FileNotFoundError(name)
        return str(tmp_path / 'cut' / name)

    monkeypatch.setattr(open_clip, 'download_pretrained', download)
    for source in (index.parent, index, 'hf-hub:maker/clip'):
        state = read_weights(config, str(source))
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert set(parts) < set(asked)

    (index.parent / parts[1]).unlink()
    with pytest.raises(FileNotFoundError, match=parts[1]):
        read_weights(config, str(index.parent))
    for text in ('{}', '[]', '{"weight_map": {}}', '{"weight_map": {"a": 3}}', '{"weight_map',
                 '{"weight_map": {"a": "../whole/model.safetensors"}}', 'version https://git-lfs',
                 '[' * 100_000):
        index.write_text(text)
        with pytest.raises(ValueError, match=f'{index} is no list of the parts of weights: its '
                                             'weight_map has to name files beside it'):
            read_weights(config, str(index))


def test_siglip_of_transformers(tmp_path, timm_clip):
    model, config = a_siglip(timm_clip)
    torch.save({f'model.{key}': value for key, value in model.state_dict().items()},
               tmp_path / 'pytorch_model.bin')
    images = torch.randn(2, 3, 64, 64)
    texts = [[5, 6, 7], [8]]
    padded = [text + [1] * (16 - len(text)) for text in texts]
    expected_text, expected_image = embed(model, padded, images)
    text = CLIPTextTower(model=config, pretrained=str(tmp_path / 'pytorch_model.bin'))
    text.init_weights()
    text.tokenizer = type('Tokenizer', (), dict(pad=1))()
    image = CLIPTIMMBackbone(model=config, pretrained=str(tmp_path))
    image.init_weights()
    with torch.no_grad():
        assert_close(text(grow_trees(texts))[0], expected_text)
        assert_close(image.eval()(images)[-1][0], expected_image)


def test_half_a_model_of_transformers(tmp_path):
    """Each tower is published alone, too; the file of one is no file of the other."""
    model, config = a_clip()
    text = {key: value for key, value in model.state_dict().items() if key.startswith('text')}
    text['text_model.embeddings.position_ids'] = torch.arange(77)[None]  # of old versions
    save_file(text, tmp_path / 'text.safetensors')
    load_tower(tower_of(config, 'text'), 'text', model=config,
               pretrained=str(tmp_path / 'text.safetensors'))
    with pytest.raises(ValueError, match=r'text\.safetensors. holds no visual tower of a CLIP; its '
                                         r'tensors are text\.'):
        load_tower(tower_of(config, 'visual'), 'visual', model=config,
                   pretrained=str(tmp_path / 'text.safetensors'))


def tower_of(config: dict, part: str) -> nn.Module:
    tower = CLIPTextTower(model=config) if part == 'text' else CLIPVisionTransformer(model=config)
    return tower.tower


@pytest.mark.parametrize(('change', 'fault'), [
    (lambda state: state | {'text_model.encoder.layers.0.self_attn.k_proj.bias': torch.zeros(())},
     'is no file of CLIP weights: its tensors have the names of .* but do not fit together'),
    (lambda state: {key: value for key, value in state.items()
                    if 'layers.0.self_attn.v' not in key},
     r'text tower of the given model config: 6 tensors do not fit \(transformer.resblocks.0.attn'),
    (lambda state: state | {'model.logit_scale': torch.zeros(())},
     'it holds logit_scale twice, under logit_scale and model.logit_scale'),
])
def test_a_damaged_file_of_transformers(tmp_path, change, fault):
    model, config = a_clip()
    torch.save(change(model.state_dict()), tmp_path / 'clip.pt')
    with pytest.raises(ValueError, match=fault) as error:
        load_tower(tower_of(config, 'text'), 'text', model=config,
                   pretrained=str(tmp_path / 'clip.pt'))
    assert len(str(error.value).splitlines()) == 1


# --- prefixes ------------------------------------------------------------------------------------


@pytest.mark.parametrize('prefix', [
    'module.', '_orig_mod.', 'model.', 'module._orig_mod.', '_orig_mod.module.', 'model.module.'])
@pytest.mark.parametrize('of_training', [True, False])
def test_prefixes_of_wrappers(tiny_vit, tmp_path, prefix, of_training):
    clip = open_clip.CLIP(**tiny_vit)
    state = {prefix + key: value for key, value in clip.state_dict().items()}
    if of_training:  # as open_clip's own
        optimizer = torch.optim.AdamW(clip.parameters())
        clip.visual.proj.sum().backward()
        optimizer.step()
        state = dict(epoch=3, name='run', state_dict=state, optimizer=optimizer.state_dict(),
                     scaler=dict(scale=65536.0, growth_factor=2.0))
    torch.save(state, tmp_path / 'clip.pt')
    read, quick_gelu = read_file(tmp_path / 'clip.pt')
    assert quick_gelu is None
    expected = open_clip.model.convert_to_custom_text_state_dict(clip.state_dict())
    assert read.keys() == expected.keys() and all(
        torch.equal(read[key], value) for key, value in expected.items())


def test_a_compiled_tower(tiny_vit, tmp_path):
    """``torch.compile`` of a part puts its prefix within the names."""
    state = open_clip.CLIP(**tiny_vit).state_dict()
    torch.save({key.replace('visual.', 'visual._orig_mod.'): value
                for key, value in state.items()}, tmp_path / 'clip.pt')
    assert torch.equal(read_file(tmp_path / 'clip.pt')[0]['visual.proj'], state['visual.proj'])


# --- folders -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_vit, tmp_path) -> Path:
    """What open_clip writes for the hub, of a model and its weights."""
    (tmp_path / 'clip').mkdir()
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**tiny_vit).state_dict(),
              tmp_path / 'clip/open_clip_model.safetensors')
    (tmp_path / 'clip/open_clip_config.json').write_text(json.dumps(dict(
        model_cfg=tiny_vit, preprocess_cfg=dict(mean=[0.5, 0.5, 0.5], std=[1, 1, 1]))))
    return tmp_path / 'clip'


def test_a_folder_gives_model_and_weights(folder, tiny_vit):
    """As open_clip reads it."""
    name = f'local-dir:{folder}'
    clip = open_clip.create_model(name).eval()
    images = torch.randn(1, 3, 64, 64)
    assert clip_config(name) == tiny_vit
    for options in (dict(model=name), dict(model=name, pretrained=str(folder)),
                    dict(model=tiny_vit, pretrained=name)):
        backbone = CLIPVisionTransformer(**options)
        backbone.init_weights()
        text = CLIPTextTower(**options)
        text.init_weights()
        with torch.no_grad():
            assert_close(backbone.eval()(images)[-1][0], clip.encode_image(images))
            tokens = open_clip.tokenize(['a red star'])
            ours = text(grow_trees([text.prompt(text.tokenize('a red star'))]))[0]
            assert_close(ours, clip.encode_text(tokens))
    assert normalisation(name, name) == dict(mean=(0.5, ) * 3, std=(1, 1, 1))


def test_an_export_needs_no_folder(folder, tmp_path):
    """What is written holds the model's config, not the folder's name."""
    cfg = Config.fromfile(ROOT / 'configs/demo/zero_shot_scenes.py')
    cfg.model.backbone = dict(type='CLIPVisionTransformer', model=f'local-dir:{folder}',
                              frozen_stages=5)
    cfg.model.neck.text_encoder = dict(type='CLIPTextTower', model=f'local-dir:{folder}')
    cfg.dump(tmp_path / 'model.py')
    predictor = Predictor(tmp_path / 'model.py', device='cpu')
    files = save_without_text_tower(predictor.model, tmp_path / 'out')
    shutil.rmtree(folder)
    image = draw(1, 5, 128)[0]
    assert torch.equal(torch.tensor(Predictor(*files, device='cpu')(image).score_map),
                       torch.tensor(predictor(image).score_map))


def test_weights_of_a_folder_in_the_order_of_open_clip(folder, tiny_vit):
    """Its own names come before those of transformers; other names have to be alone."""
    clip = folder / 'open_clip_model.safetensors'
    other = {'visual.proj': torch.zeros(1)}
    torch.save(other, folder / 'pytorch_model.bin')
    assert 'logit_scale' in read_weights(tiny_vit, str(folder))
    torch.save(read_file(clip)[0], folder / 'open_clip_pytorch_model.bin')
    clip.unlink()
    assert 'logit_scale' in read_weights(tiny_vit, str(folder))
    (folder / 'open_clip_pytorch_model.bin').rename(folder / 'epoch_30.pt')
    assert read_weights(tiny_vit, str(folder)).keys() == other.keys()
    (folder / 'pytorch_model.bin').unlink()
    for suffix in ('.ckpt', '.pth', '.pt'):
        (folder / 'epoch_30.pt').rename(folder / f'epoch_30{suffix}')
        assert 'logit_scale' in read_weights(tiny_vit, str(folder))
        (folder / f'epoch_30{suffix}').rename(folder / 'epoch_30.pt')
    shutil.copy(folder / 'epoch_30.pt', folder / 'epoch_31.pt')
    with pytest.raises(ValueError, match=r'several files of weights \(epoch_30.pt, epoch_31.pt\)'):
        read_weights(tiny_vit, str(folder))
    for path in folder.glob('epoch*'):
        path.unlink()
    with pytest.raises(FileNotFoundError, match='clip holds no weights: there is no open_clip_m'):
        read_weights(tiny_vit, str(folder))


@pytest.mark.parametrize(('model', 'error', 'message'), [
    ('local-dir:nowhere', FileNotFoundError, "model='local-dir:nowhere': there is no nowhere/open_"
     r'clip_config.json \(looked from /'),
    ('clip', ValueError, "open_clip has no model 'clip'; for a folder write 'local-dir:clip'"),
    ('local-dir:', FileNotFoundError, 'there is no open_clip_config.json'),
    ('hf-hub:nobody/nothing', FileNotFoundError, r"open_clip_config.json of 'hf-hub:nobody/nothing'"
     r' could not be fetched from the Hugging Face hub \(no network: \w+\). Without a network: '
     "copy the folder of https://huggingface.co/nobody/nothing .* write 'local-dir:FOLDER'"),
    ('hf-hub:', FileNotFoundError, 'could not be fetched'),
])
def test_models_that_are_not_there(folder, monkeypatch, model, error, message):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(error, match=message) as caught:
        clip_config(model)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(('text', 'message'), [
    ('{', r'open_clip_config\.json is no JSON \('),
    ('[1]', 'holds a list, not a config'),
    ('[' * 100_000, r'is no JSON \('),
    ('{"model_cfg": 3}', r"the config of 'local-dir:.*' lacks \['embed_dim', 'text_cfg', 'vi"),
    ('{"model_cfg": {"embed_dim": 3, "text_cfg": {}}}', r"lacks \['vision_cfg'\]"),
])
def test_a_faulty_config_of_a_folder(folder, text, message):
    (folder / 'open_clip_config.json').write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        clip_config(f'local-dir:{folder}')
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(('part', 'sizes', 'fault'), [
    *(('text_cfg', {key: value}, f'text_cfg.{key}={said}, which has to be a whole number from 1 to')
      for key in ('layers', 'width', 'heads', 'context_length', 'vocab_size')
      for value, said in ((10**9, '1000000000'), (2**70, 'a number of 71 bits'), (0, '0'),
                          (-1, '-1'), (1.5, '1.5'), ('12', "'12'"), (True, 'True'), ([1], '[1]'))),
    ('text_cfg', dict(layers=[1, 1, 1, 1]), 'text_cfg.layers=[1, 1, 1, 1], which has to be'),
    ('text_cfg', dict(mlp_ratio=float('nan')), 'text_cfg.mlp_ratio=nan, which has to be a number'),
    ('text_cfg', dict(heads=7), '32 channels in 7 heads of its text_cfg; the heads have to share'),
    ('text_cfg', dict(layers=1000, width=2**14), 'sizes in its text_cfg that make 3,222,'),
    ('vision_cfg', dict(layers=[1, 1, 1, 10**9]), 'vision_cfg.layers=[1, 1, 1, 1000000000], which'),
    ('vision_cfg', dict(layers=[1, 1, 1]), 'vision_cfg.layers=[1, 1, 1], which has to be'),
    ('vision_cfg', dict(image_size=[64, 10**6]), 'or two of them'),
    ('vision_cfg', dict(head_width=100), '64 channels in 0 heads of its vision_cfg; the heads'),
    ('vision_cfg', dict(width=2**14, layers=1000), 'sizes in its vision_cfg that make 3,2'),
])
def test_sizes_without_end(folder, tiny_vit, part, sizes, fault):
    """Of a folder's config, and of a dict in a config."""
    tiny_vit[part].update(sizes)
    (folder / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=tiny_vit)))
    for model in (f'local-dir:{folder}', tiny_vit):
        with pytest.raises(ValueError) as error:
            clip_config(model)
        assert fault in str(error.value) and len(str(error.value).splitlines()) == 1


def test_every_model_of_open_clip_has_fair_sizes():
    for name in open_clip.list_models():
        config = clip_config(name)
        assert clip_config(dict(config)) == config


@pytest.mark.parametrize('pretrained', ['local-dir:nowhere', 'hf-hub:nobody/nothing', 'nowhere'])
def test_weights_that_are_not_there(tiny_vit, pretrained):
    with pytest.raises(FileNotFoundError, match=r'nowhere|nobody/nothing') as caught:
        read_weights(tiny_vit, pretrained)
    assert len(str(caught.value).splitlines()) == 1
    assert normalisation(tiny_vit, pretrained) is None


def test_a_name_on_the_hub(folder, tiny_vit, monkeypatch):
    """Fetched file by file as open_clip does; what is known of it comes from the cache alone."""
    asked = []

    def download(cfg):
        asked.append(cfg['hf_hub'])
        name = cfg['hf_hub'].removeprefix('maker/clip/').replace('_pytorch_model.bin',
                                                                 '_model.safetensors')
        if not (folder / name).is_file():
            raise FileNotFoundError(name)
        return str(folder / name)

    name = 'hf-hub:maker/clip'
    monkeypatch.setattr(open_clip, 'download_pretrained', download)
    assert clip_config(name) == tiny_vit
    clip_config(name)['text_cfg']['width'] = 1
    assert clip_config(name) == tiny_vit and asked == ['maker/clip/open_clip_config.json']
    assert normalisation(name, name) is None  # not in the cache of the test
    backbone = CLIPVisionTransformer(model=name)
    assert backbone.pretrained == name and len(asked) == 1
    backbone.init_weights()
    assert torch.equal(backbone.tower.proj, read_weights(tiny_vit, str(folder))['visual.proj'])
    monkeypatch.setattr('denseclip_mm.clip.hub.try_to_load_from_cache', lambda name, file: (
        str(folder / file) if name == 'maker/clip' and (folder / file).is_file() else None))
    assert normalisation(name, name)['mean'] == (0.5, 0.5, 0.5)


def test_a_name_on_the_hub_of_transformers(tmp_path, monkeypatch):
    """Which has model.safetensors alone; open_clip knows a twin of each .bin by another name."""
    model, config = a_clip()
    model.save_pretrained(tmp_path)

    def download(cfg):
        name = cfg['hf_hub'].removeprefix('maker/clip/')
        if not (tmp_path / name).is_file():
            raise FileNotFoundError(name)
        return str(tmp_path / name)

    monkeypatch.setattr(open_clip, 'download_pretrained', download)
    assert 'visual.proj' in read_weights(config, 'hf-hub:maker/clip')


def test_the_tokenizer_of_a_folder(folder, tiny_vit):
    """Where the model's tokenizer is Hugging Face's; without its files the name is asked for."""
    name = f'local-dir:{folder}'
    tiny_vit['text_cfg'] |= dict(hf_tokenizer_name='maker/clip', no_causal_mask=True,
                                 pool_type='last')
    (folder / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=tiny_vit)))
    assert CLIPTextTower(model=name).tokenizer.source == 'maker/clip'
    (folder / 'tokenizer_config.json').write_text('{}')
    assert CLIPTextTower(model=name).tokenizer.source == str(folder)
    assert CLIPTextTower(model=name, tokenizer='mine').tokenizer.source == 'mine'


# --- what a folder tells of its weights ----------------------------------------------------------


@pytest.mark.parametrize(('activation', 'model', 'twin'), [
    ('quick_gelu', 'ViT-B-16', 'ViT-B-16-quickgelu'), ('gelu', 'ViT-B-16-quickgelu', 'ViT-B-16')])
@pytest.mark.parametrize('file', ['', '/model.safetensors'])
def test_the_activation_of_a_folder_of_transformers(
        tmp_path, activation, model, twin, file, caplog):
    a_clip(activation)[0].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=re.escape(f'use model={twin!r}')):
        read_weights(model, f'{tmp_path}{file}')
    assert 'visual.proj' in read_weights(twin, f'{tmp_path}{file}') and not caplog.text
    shutil.copy(tmp_path / 'model.safetensors', tmp_path / 'mine.safetensors')
    read_weights(twin, str(tmp_path / 'mine.safetensors'))  # of another name: of no folder
    assert 'does not tell with which activation' in caplog.text


def test_the_pixels_of_a_folder_of_transformers(tmp_path, tiny_vit):
    processor = transformers.SiglipImageProcessor()
    processor.save_pretrained(tmp_path)
    assert normalisation(tiny_vit, str(tmp_path)) == dict(mean=(0.5, ) * 3, std=(0.5, ) * 3)
    (tmp_path / 'preprocessor_config.json').write_text('{"image_mean": [0.5, "a", 0.5]}')
    assert normalisation(tiny_vit, str(tmp_path)) is None


def test_a_folder_of_transformers_is_no_model(tmp_path):
    a_clip()[0].save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="of Hugging Face's transformers, give the path as "
                                                'pretrained=, and as model= the name'):
        clip_config(f'local-dir:{tmp_path}')


# --- weights of another context ------------------------------------------------------------------


@pytest.mark.parametrize('length', [16, 248])
def test_another_context_length(tiny_vit, tmp_path, length):
    tiny_vit['text_cfg']['context_length'] = length
    torch.save(open_clip.CLIP(**tiny_vit).state_dict(), tmp_path / 'clip.pt')
    model = {**tiny_vit, 'text_cfg': {**tiny_vit['text_cfg'], 'context_length': 77}}
    with pytest.raises(ValueError, match=f'was trained with a context of {length} tokens, the text '
                       'tower of the given model config takes 77; give as model the open_clip '
                       rf'config with text_cfg\.context_length={length}$'):
        CLIPTextTower(model=model, pretrained=str(tmp_path / 'clip.pt')).init_weights()
    CLIPTextTower(model=tiny_vit, pretrained=str(tmp_path / 'clip.pt')).init_weights()
