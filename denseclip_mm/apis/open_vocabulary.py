"""Names that a model was not built for, answered by its score map or by a head for any names.

A detector goes on finding the things of its training; the score map in its boxes names them.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from denseclip_mm.apis.pictures import distinct_colours
from denseclip_mm.models.aggregation_head import CostAggregationHead
from denseclip_mm.models.ensemble_head import EnsembleHead
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_detector import WithScoreMap
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.views import view_of
from denseclip_mm.models.vocabulary import read_class_names

from mmengine.config import Config
from mmseg.models import BaseSegmentor, CascadeEncoderDecoder, EncoderDecoder
from torch import nn


def has_score_map(model: nn.Module) -> bool:
    """Whether a model has a score map, to be looked at and to answer to other names."""
    return (isinstance(getattr(model, 'neck', None), PixelTextNeck)
            and not isinstance(model, CascadeEncoderDecoder)
            and isinstance(model, BaseSegmentor | WithScoreMap))


def names_boxes(model: nn.Module) -> bool:
    """Whether a detector is a view of :func:`answer_names`: its score map names what it finds."""
    return has_score_map(model) and model.neck.is_renamed


def neck_of(model: nn.Module) -> PixelTextNeck:
    """The neck that answers names.

    Raises:
        ValueError: if the model has no score map to answer names.
    """
    if not has_score_map(model):
        raise ValueError('names need a score map, which the neck PixelTextNeck makes (of a '
                         'detector: in a ScoreMapDetector); this model has none')
    return model.neck


def answer_names(model: nn.Module, class_names: str | Sequence[str], *,
                 by_score_map: bool = False, alone: bool = False) -> nn.Module:
    """A view of a built model that answers to these names.

    A :class:`CostAggregationHead <denseclip_mm.models.CostAggregationHead>` answers them itself. In
    the place of any other decode head, whose classes are fixed, the score map does; that head and
    the neck before it have no part in the view then. Backbone, contexts and context decoder are the
    model's. The model stays whole, and the view's ``cfg``, if the model has one, and
    ``dataset_meta`` are those of what it is.

    The view of a detector finds the same boxes and masks as the model; its score map is that of the
    names, by which :mod:`denseclip_mm.apis.detection` names them. It has no ``cfg``.

    Args:
        model: a segmentor with a :class:`PixelTextNeck`, or a ``ScoreMapDetector``.
        class_names: as in :class:`PixelTextNeck`.
        by_score_map: whether the score map answers in every case.
        alone: whether one name alone will do. The score map answers it: its cosine says something
            without another one to compare with, a probability does not.

    Raises:
        ValueError: if the model has no :class:`PixelTextNeck` or is a cascade, its prompt is
            class-specific, or the names are faulty or a single one.

    Examples:
        >>> from denseclip_mm import Predictor
        >>> from denseclip_mm.apis.open_vocabulary import answer_names
        >>> model = Predictor('configs/demo/zero_shot_scenes.py', device='cpu').model
        >>> view = answer_names(model, ['snow', 'grass;lawn'])
        >>> view.num_classes, model.num_classes
        (2, 30)
    """
    if isinstance(model, CascadeEncoderDecoder):
        raise ValueError('a CascadeEncoderDecoder answers by its heads, whose classes are fixed')
    neck = neck_of(model)
    names = read_class_names(class_names) if alone else _several(class_names)
    if not isinstance(model, BaseSegmentor):
        return _detector_with(model, neck, names)
    if isinstance(model.decode_head, CostAggregationHead) and not by_score_map and len(names) > 1:
        head = view_of(model.decode_head)
        head.num_classes = head.out_channels = len(names)
        head.sampler = None  # which may weigh the classes of the training
        of_head = None
        neck = neck.view(names)
    else:
        neck = neck.view(names, score_map_alone=True)
        of_head = dict(num_classes=len(names), tau=_tau(model), align_corners=model.align_corners)
        head = ScoreMapHead(**of_head).train(model.training)
    view = view_of(model, neck=neck, auxiliary_head=None, decode_head=head)
    view.num_classes = view.out_channels = len(names)
    view.dataset_meta = dict(classes=tuple(names), palette=distinct_colours(len(names)))
    if hasattr(model, 'cfg'):
        view.cfg = _config_of_view(model.cfg, names, of_head)
    return view


def _detector_with(model: nn.Module, neck: PixelTextNeck, names: list[str]) -> nn.Module:
    view = view_of(model, neck=neck.view(names))
    view.dataset_meta = dict(classes=tuple(names), palette=distinct_colours(len(names)))
    view.__dict__.pop('cfg', None)
    return view


def mix_heads(model: EncoderDecoder, weights: tuple[float, float], *,
              class_names: str | Sequence[str] | None = None,
              unlabelled: Sequence[str] = ()) -> EncoderDecoder:
    """A view of a built model whose decoder with fixed classes is mixed with its score map.

    Names that are not the decoder's had no label. The view has no ``cfg``, so it cannot be exported
    as config and checkpoint.

    Args:
        model: a segmentor with a :class:`PixelTextNeck` and a trained decoder.
        weights: of the score map, for names with labels and for those without; see
            :class:`EnsembleHead <denseclip_mm.models.ensemble_head.EnsembleHead>`.
        class_names: other names, as in :class:`PixelTextNeck`; None for the model's own.
        unlabelled: names of the model that had no label in training.

    Raises:
        ValueError: as :func:`answer_names`; or if there is no decoder with fixed classes, a weight
            is not in [0, 1], or one of ``unlabelled`` is no name of the model.
    """
    head = getattr(model, 'decode_head', None)
    if (not has_score_map(model) or head is None
            or isinstance(head, ScoreMapHead | CostAggregationHead)):
        raise ValueError('an ensemble needs a decode head with fixed classes and a score map; this '
                         'model has not both')
    own = model.neck.decoder_vocabulary.names
    if strange := sorted(set(unlabelled) - set(own)):
        raise ValueError(f'{strange[0]!r} is said to have no label, and is no name of the model')
    neck = neck_of(model)
    names = _several(neck.class_names if class_names is None else class_names)
    neck = neck.view(None if class_names is None else names)
    head = EnsembleHead(
        decode_head=model.decode_head, takes_score_map=model.neck.output_score_map,
        columns=[own.index(name) if name in own else None for name in names],
        labelled=[name in own and name not in unlabelled for name in names],
        weights=weights, tau=_tau(model)).to(model.neck.vocabulary.class_of_text.device)
    view = view_of(model, neck=neck, auxiliary_head=None, decode_head=head.train(model.training))
    view.num_classes = view.out_channels = len(names)
    if class_names is not None:
        view.dataset_meta = dict(classes=tuple(names), palette=distinct_colours(len(names)))
    view.__dict__.pop('cfg', None)
    return view


def _several(class_names: str | Sequence[str]) -> list[str]:
    names = read_class_names(class_names)
    if len(names) == 1:
        raise ValueError(f'{names[0]!r} alone leaves nothing to choose between; name what else is '
                         'in the pictures, too')
    return names


def _tau(model: EncoderDecoder) -> float:
    return next((module.tau for module in model.modules() if isinstance(module, ScoreMapHead)),
                0.07)


def _config_of_view(cfg: Config, names: list[str], score_map_head: dict[str, Any] | None) -> Config:
    """The config of the view, whose head is the model's own or one on the score map."""
    cfg = deepcopy(cfg)
    cfg.model.neck.class_names = names
    cfg.model.pop('auxiliary_head', None)
    if score_map_head is None:
        cfg.model.decode_head.num_classes = len(names)
        cfg.model.decode_head.pop('sampler', None)
        return cfg
    for key in ('neck', 'score_map_index', 'output_score_map'):
        cfg.model.neck.pop(key, None)
    cfg.model.decode_head = dict(type='ScoreMapHead', **score_map_head)
    return cfg
