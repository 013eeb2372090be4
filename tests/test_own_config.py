"""The page on a config of mmseg's own, word for word, on the configs that mmseg ships."""

import re
from contextlib import nullcontext
from pathlib import Path

from denseclip_mm.apis.checks.heads import check_heads

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

ROOT = Path(__file__).resolve().parents[1]
STOCK = Path(mmseg.__file__).parent / '.mim/configs'
PAGE = (ROOT / 'docs/own_config.md').read_text()
WHOLE = re.search(r'```python\n(.*?)```', PAGE, re.DOTALL)[1]
ENDS = dict(re.findall(r'### (.*?)\n.*?```python\n(.*?)```', PAGE, re.DOTALL))
CASES = {
    'FPN': 'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
    'UPerNet': 'upernet/upernet_r50_4xb4-160k_ade20k-512x512.py',
    'SegFormer': 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'DeepLabV3+': 'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py',
    'PSPNet': 'pspnet/pspnet_r50-d8_4xb4-160k_ade20k-512x512.py',
    'OCRNet': 'ocrnet/ocrnet_hr18_4xb4-160k_ade20k-512x512.py',
    'Mask2Former': 'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
}
# RN50 and its text tower with a layer for every stage: the channels are those of the full size.
SHORT = dict(
    embed_dim=1024, quick_gelu=True,
    vision_cfg=dict(image_size=224, layers=[1, 1, 1, 1], width=64, patch_size=None),
    text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=2, layers=1))


def write(name: str, folder: Path, stock: str, replace: dict[str, str]) -> Config:
    """The page's config for a head, as a file that is read."""
    text = WHOLE
    for heading, end in ENDS.items():
        if name in heading:
            text = WHOLE[:WHOLE.index('model = ')] + end + WHOLE[WHOLE.index('optim_wrapper'):]
    for old, new in {
            'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py': str(STOCK / stock),
            **replace}.items():
        assert old in text, old
        text = text.replace(old, new)
    if name == 'Mask2Former':
        pytest.importorskip('mmdet')
        text = text.replace("custom_imports = dict(imports=['denseclip_mm'])",
                            re.search(r'custom_imports = dict\(.*mmdet.*\)', PAGE)[0])
    path = folder / 'own.py'
    path.write_text(text)
    return Config.fromfile(path)


def build(cfg: Config) -> EncoderDecoder:
    """The model, small and without weights to fetch."""
    for tower in (cfg.model.backbone, cfg.model.neck.text_encoder):
        tower.pretrained = None
        if tower.model == 'RN50-quickgelu':
            tower.model = SHORT
    cfg.model.data_preprocessor.size = (64, 64)
    if 'pixel_decoder' in (head := cfg.model.decode_head):  # Mask2Former: a layer of each
        head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 1
        head.update(num_queries=20, num_transformer_feat_level=3)
        head.train_cfg.num_points = 64
    elif isinstance(head, dict) and 'channels' in head:
        head.channels = 64
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def samples() -> list[SegDataSample]:
    """Two labelled images of 64 x 64."""
    made = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64),
                                             pad_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 150, (1, 64, 64)))
        made.append(sample)
    return made


@pytest.mark.parametrize('name', CASES)
def test_the_page_word_for_word(name: str, tmp_path: Path) -> None:
    """Checked, trained for a step, asked for labels; names, pixels and optimiser have changed."""
    cfg = write(name, tmp_path, CASES[name], {})
    assert len((tmp_path / 'own.py').read_text().splitlines()) <= 12
    assert cfg.model.data_preprocessor.mean[0] == pytest.approx(0.48145466 * 255)
    assert cfg.optim_wrapper.optimizer.type == 'AdamW' and 'denseclip_mm' in str(cfg.custom_imports)
    assert [hook.type for hook in cfg.custom_hooks] == [
        'CheckClassesHook', 'CheckLossHook', 'RunSummaryHook']
    model = build(cfg)
    check_heads(model)
    assert model.training
    contexts = model.neck.prompt.contexts.detach().clone()
    losses = model.train_step(
        dict(inputs=list(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)),
             data_samples=samples()), build_optim_wrapper(model, cfg.optim_wrapper))
    assert all(value.isfinite() for value in losses.values())
    assert any('loss_ce' in key and key.startswith('aux') for key in losses)
    assert not torch.equal(contexts, model.neck.prompt.contexts)
    with torch.no_grad():
        labels = model.eval().predict(torch.zeros(1, 3, 64, 64), samples()[:1])[0].pred_sem_seg
    assert labels.shape == (64, 64) and labels.data.min() >= 0 and labels.data.max() < 150


def test_vit_has_maps_of_768_channels(tmp_path: Path) -> None:
    cfg = write('FPN', tmp_path, CASES['FPN'], {
        'language_r50': 'language_vitb16',
        'neck=_base_.model.neck': re.search(r'neck=dict\(_base_.model.neck.*?\]? \* 4\)', PAGE)[0]})
    backbone = build(cfg).backbone
    assert type(backbone).__name__ == 'CLIPVisionTransformer'
    assert cfg.model.neck.score_map_index == 2
    assert cfg.model.neck.neck.in_channels == [768] * 4


def test_hooks_of_ones_own(tmp_path: Path) -> None:
    """A config with hooks is inherited like any other; the page says how the checks join them."""
    (tmp_path / 'base.py').write_text(f"_base_ = '{STOCK / CASES['FPN']}'\n"
                                      "custom_hooks = [dict(type='EMAHook')]")
    both = re.search(r'`(custom_hooks = \[.*\])`', PAGE)[1]
    cfg = write('FPN', tmp_path, CASES['FPN'], {
        str(STOCK / CASES['FPN']): str(tmp_path / 'base.py'),
        'custom_hooks = language.custom_hooks': both})
    assert [hook.type for hook in cfg.custom_hooks] == [
        'EMAHook', 'CheckClassesHook', 'CheckLossHook', 'RunSummaryHook']


def test_a_head_that_takes_the_place_of_another(tmp_path: Path) -> None:
    """Without the word of the page, options of the stock head are left over."""
    beside = 'auxiliary_head=[_base_.model.auxiliary_head, dict('
    for word, fits in (('', False), (re.search('`(_delete_=True)` in the dict', PAGE)[1], True)):
        cfg = write('UPerNet', tmp_path, CASES['UPerNet'], {
            beside: f'auxiliary_head=dict({word + ", " if word else ""}', '150)])': '150))'})
        with nullcontext() if fits else pytest.raises(TypeError, match="argument 'in_channels'"):
            assert type(build(cfg).auxiliary_head).__name__ == 'ScoreMapHead'


def test_it_is_the_shipped_config_but_for_the_head(tmp_path: Path) -> None:
    """The base file says what configs/denseclip_fpn.py says."""
    ours, cfg = Config.fromfile(ROOT / 'configs/denseclip_fpn.py'), write(
        'FPN', tmp_path, CASES['FPN'], {})
    for part in ('neck', 'data_preprocessor', 'backbone'):
        theirs = {key: value for key, value in cfg.model[part].items() if key != '_delete_'}
        assert {**ours.model[part], 'with_embeddings': None} == {**theirs, 'with_embeddings': None}
    assert {**ours.model.auxiliary_head, 'in_index': 4} == {
        **cfg.model.auxiliary_head, 'in_index': 4}
    assert ours.optim_wrapper == cfg.optim_wrapper


# What goes wrong without a look at it

WRONG = {
    'the channels': ('UPerNet', {'2048 + 150': '2048'}, (
        r'decode_head \(UPerHead\) takes map \[0, 1, 2, 3\] with \[256, 512, 1024, 2048\] '
        r'channels, but the maps have \[256, 512, 1024, 2198\], the score map behind them 150; '
        r'write decode_head.in_index=\[0, 1, 2, 3\], in_channels=\[256, 512, 1024, 2198\]')),
    'the score map as a map': ('PSPNet', {'in_channels=2048 + 150': 'in_index=-1'}, (
        r'decode_head \(PSPHead\) takes map -1 with 2048 channels.*write decode_head.in_index=3, '
        'in_channels=2198')),
    'a map that is not there': ('PSPNet', {'in_channels=2048 + 150': 'in_index=7'},
                                'takes map 7 with 2048 channels.*write decode_head.in_index=3'),
    'of a cascade': ('OCRNet', {'2048 + 150': '2048'},
                     r'decode_head.0 \(FCNHead\) takes map \(0, 1, 2, 3\) with 3840 channels'),
    'the wrapped neck': ('FPN', {'neck=_base_.model.neck': 'neck=dict(_base_.model.neck, '
                                 'in_channels=[256, 512, 1024, 1024])'},
                         r"the neck cannot take the backbone's maps of \[256, 512, 1024, 2048\] "
                         r'channels \(.*\); give it these as in_channels'),
    'the channels of queries': (
        'Mask2Former', {'2048 + 150': '2048'},
        r'decode_head cannot take maps of \[256, 512, 1024, 2198\] channels \(.*to have 2048 '
        r'channels, but got 2198 .*\); give it these as in_channels'),
    'the channels of a second map': (
        'DeepLabV3+', {'2048 + 150': '2048 + 150, c1_in_channels=64'},
        r'maps of \[256, 512, 1024, 2198\] channels \(.*to have 64 channels, but got 256.*'
        'as c1_in_channels of DeepLabV3'),
    'a score map that is not there': (
        'FPN', {'num_classes=150))': 'num_classes=150, in_index=7))'},
        r'auxiliary_head cannot take maps of .*\(.*index out of range\); in_index counts these 5'),
    'no neck': ('FPN', {"neck=dict(_delete_=True, **language.neck, class_names='ade20k', "
                        'neck=_base_.model.neck)': 'train_cfg=dict()',
                        'auxiliary_head=dict(**language.score_map_head, num_classes=150)':
                        'auxiliary_head=None'},
                'the backbone hands on its embeddings, and no PixelTextNeck takes them'),
}


@pytest.mark.parametrize('case', WRONG)
def test_a_head_that_cannot_take_its_maps(case: str, tmp_path: Path) -> None:
    """One line before training, that says what to write; the model is as before."""
    name, replace, message = WRONG[case]
    cfg = write(name, tmp_path, CASES[name], replace)
    if case == 'no neck':
        cfg.model.neck = None
        cfg.model.backbone.update(pretrained=None, model=SHORT)
        cfg.model.data_preprocessor.size = (64, 64)
        model = MODELS.build(cfg.model)
    else:
        model = build(cfg)
    with pytest.raises(ValueError, match=message):
        check_heads(model)
    assert model.training


def test_queries_of_other_classes(tmp_path: Path) -> None:
    """Their number is compared with the names, the weights of their loss with it; as the page."""
    six = {"class_names='ade20k'": 'class_names=list("abcdef")', '150))': '6))'}
    stock = 'decode_head=dict(in_channels=[256, 512, 1024, 2048 + 150])'
    end = re.search(r'`(decode_head=dict\(.*?, (num_classes=6), .*\))`', PAGE)
    check = HOOKS.build(dict(type='CheckClassesHook'))._check_neck
    for head, message in (
            (end[1].replace(f', {end[2]}', ''),
             '^decode_head has num_classes=150, but the neck has 6 class_names'),
            (stock.replace('150])', f'6], {end[2]})'),
             '^decode_head.loss_cls.class_weight has 151 entries, but needs 7: one for each class, '
             'and one for none$')):
        with pytest.raises(ValueError, match=message):
            check(build(write('Mask2Former', tmp_path, CASES['Mask2Former'],
                              {**six, stock: head})))
    cfg = write('Mask2Former', tmp_path, CASES['Mask2Former'], {**six, stock: end[1]})
    check(build(cfg))
    cfg.model.auxiliary_head.loss_decode.class_weight = [1.0] * 5
    with pytest.raises(ValueError, match=r'^auxiliary_head.loss_decode.class_weight has 5 entries, '
                       'but needs 6: one for each class$'):
        check(build(cfg))


def test_two_strides_taken_as_one(tmp_path: Path) -> None:
    """OCRNet on ResNets, whose heads take maps 2 and 3; the page's strides mend it."""
    heads = 'decode_head=[dict(head, in_channels=[256, 512, 1024, 2048 + 150])\n' \
            '                 for head in _base_.model.decode_head]'
    stock = 'ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py'
    cfg = write('OCRNet', tmp_path, stock, {heads: """decode_head=[
        dict(_base_.model.decode_head[0], num_classes=150),
        dict(_base_.model.decode_head[1], in_channels=2048 + 150, num_classes=150)]"""})
    with pytest.raises(ValueError, match=r'decode_head cannot take maps of \[.*\(4, 4\), \(2, 2\)'):
        check_heads(build(cfg))
    strides = re.search(r'model.backbone.strides=\(([\d, ]+)\)', PAGE)[1]
    cfg.model.backbone.strides = tuple(map(int, strides.split(',')))
    check_heads(build(cfg))
