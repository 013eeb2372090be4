"""What the CLIP backbones share: building an open_clip image tower, loading, freezing.

Every backbone of this package returns its feature maps (B, C_i, H_i, W_i), fine to coarse, and then
the pair (global embedding (B, C), dense embedding (B, C, H, W)) unless ``with_embeddings=False``.
"""

from collections.abc import Iterable
from typing import Any

from denseclip_mm.clip import clip_config, load_tower, own_weights

from open_clip.model import _build_vision_tower
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def size_2d(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size that may be one number for both.

    Raises:
        ValueError: if it is neither one number nor two, or one is less than 1.
    """
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or min(both) < 1:
        raise ValueError(f'image_size={size} is no size; give pixels, or height and width')
    return both


def run(block: nn.Module, x: Tensor, with_cp: bool) -> Tensor:
    """Run a block, recomputing it in backward if ``with_cp``."""
    if with_cp and x.requires_grad:
        return checkpoint(block, x, use_reentrant=False)
    return block(x)


def backbone_of(config: dict[str, Any]) -> str:
    """The class of the backbone for the image tower of an open_clip model config.

    Examples:
        >>> from denseclip_mm.clip import clip_config
        >>> [backbone_of(clip_config(name)) for name in ('RN50', 'ViT-B-16', 'EVA02-B-16')]
        ['CLIPResNet', 'CLIPVisionTransformer', 'CLIPTIMMBackbone']
    """
    vision = config['vision_cfg']
    if vision.get('timm_model_name'):
        return 'CLIPTIMMBackbone'
    is_resnet = isinstance(vision.get('layers', 12), list | tuple)
    return 'CLIPResNet' if is_resnet else 'CLIPVisionTransformer'


class CLIPTower(nn.Module):
    """Base of the backbones around an open_clip image tower.

    Args:
        model: an open_clip model name, or an open_clip model config
            (:func:`denseclip_mm.clip.clip_config`).
        pretrained: an open_clip tag, a file or a folder of CLIP weights
            (:func:`denseclip_mm.clip.load_tower`), or None for random weights; a model of a folder
            or on the hub brings its own. Read in :meth:`init_weights`.
        image_size: the training crop, one number or (height, width), to whose grid the position
            table is resized when pretrained weights load; None for the model's own size.
        frozen_stages: stages without gradient and in eval mode: -1 none, 0 the stem (patch
            embedding), n the first n stages (blocks of a ViT) as well. One more than there are
            stages freezes the projection to the embeddings, too: the whole of CLIP's image tower.
        norm_eval: keep batch norms in eval mode.
        with_cp: gradient checkpointing of each block.
        with_embeddings: return the embedding pair after the maps.
    """

    tower: nn.Module

    def __init__(self, *, model: str | dict[str, Any], pretrained: str | None = None,
                 image_size: int | tuple[int, int] | None = None, frozen_stages: int = -1,
                 norm_eval: bool = False, with_cp: bool = False,
                 with_embeddings: bool = True) -> None:
        super().__init__()
        self.config = clip_config(model)
        self.model = model
        self.pretrained = own_weights(model, pretrained)
        own_size = self.config['vision_cfg'].get('image_size', 224)
        self.image_size = size_2d(own_size if image_size is None else image_size)
        self.embed_dim: int = self.config['embed_dim']
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.with_embeddings = with_embeddings

    def build_tower(self, kind: str, **vision: Any) -> nn.Module:
        """open_clip's image tower, with some entries of its vision config replaced.

        Args:
            kind: what the tower has to be: ``'ResNet'``, ``'ViT'`` or ``'timm'``.
            vision: entries of ``vision_cfg`` to replace.

        Raises:
            ValueError: if the model's tower is of another kind.
        """
        backbone = backbone_of(self.config)
        kinds = {'CLIPResNet': 'ResNet', 'CLIPVisionTransformer': 'ViT', 'CLIPTIMMBackbone': 'timm'}
        if kinds[backbone] != kind:
            raise ValueError(f'the image tower of {self.model!r} is a {kinds[backbone]}, not a '
                             f'{kind}; use {backbone}')
        return _build_vision_tower(self.embed_dim, {**self.config['vision_cfg'], **vision},
                                   self.config.get('quick_gelu', False))

    def load_pretrained(self, grid: tuple[int, int] | None, unused: tuple[str, ...] = ()) -> None:
        """Load the pretrained weights, if any (errors: :func:`denseclip_mm.clip.load_tower`)."""
        if self.pretrained is not None:
            load_tower(self.tower, 'visual', model=self.model, pretrained=self.pretrained,
                       grid=grid, unused=unused)

    def stages(self) -> list[list[nn.Module | nn.Parameter]]:
        """Parts of the tower in the order of ``frozen_stages``: the stem, then the stages."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Freeze the first ``frozen_stages`` stages; refuse more than there are.

        Raises:
            ValueError: if there are fewer stages.
        """
        stages = self.stages()
        if not -1 <= self.frozen_stages < len(stages):
            raise ValueError(f'frozen_stages={self.frozen_stages}, but {self.model!r} has '
                             f'{len(stages) - 1} stages after its stem'
                             + (', the projection included' if self.with_embeddings else ''))
        for part in _flat(stages[:self.frozen_stages + 1]):
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> 'CLIPTower':
        """Switch to training, leaving frozen stages (and norms, if asked) in eval mode."""
        super().train(mode)
        if mode:
            for part in _flat(self.stages()[:self.frozen_stages + 1]):
                if isinstance(part, nn.Module):
                    part.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self


def _flat(stages: Iterable[list[nn.Module | nn.Parameter]]) -> list[nn.Module | nn.Parameter]:
    return [part for stage in stages for part in stage]



