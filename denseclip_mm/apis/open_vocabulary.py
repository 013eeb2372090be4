"""Names that a model was not built for, answered by its score map."""

from collections.abc import Sequence

from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.vocabulary import read_class_names

from mmseg.models import CascadeEncoderDecoder, EncoderDecoder


def answer_names(model: EncoderDecoder, class_names: str | Sequence[str]) -> None:
    """Make a built model segment by its score map, into classes of these names.

    Contexts, context decoder and backbone carry over; a decoder with fixed classes gives way.

    Args:
        model: a segmentor with a :class:`PixelTextNeck`.
        class_names: as in :class:`PixelTextNeck`.

    Raises:
        ValueError: if the model has no score map among its neck's outputs or is a cascade, its
            prompt is class-specific, or the names are faulty or a single one; the model is then
            as before.
    """
    neck = getattr(model, 'neck', None)
    if isinstance(model, CascadeEncoderDecoder):
        raise ValueError('a CascadeEncoderDecoder answers by its heads, whose classes are fixed')
    if not isinstance(neck, PixelTextNeck) or not neck.output_score_map:
        raise ValueError('names need a score map: a PixelTextNeck with output_score_map=True')
    names = read_class_names(class_names)
    if len(names) == 1:
        raise ValueError(f'{names[0]!r} alone leaves nothing to choose between; name what else is '
                         'in the pictures, too')
    neck.set_class_names(names)
    tau = next((module.tau for module in model.modules() if isinstance(module, ScoreMapHead)), 0.07)
    model.decode_head = ScoreMapHead(num_classes=len(neck.class_names), tau=tau)
    model.num_classes = len(neck.class_names)
    model.out_channels = model.decode_head.out_channels
