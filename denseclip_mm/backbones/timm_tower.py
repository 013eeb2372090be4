"""The image towers that open_clip takes from timm, as backbones."""

from collections.abc import Sequence
from typing import Any

from denseclip_mm.backbones.dense_attention import check_dense_embedding
from denseclip_mm.backbones.pyramid import check_out_indices, make_pyramid
from denseclip_mm.backbones.tower import CLIPTower

import timm
import torch
from timm.models import ConvNeXt, Eva, FastVit, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

_VIT_HEAD = ('norm', 'attn_pool', 'fc_norm', 'head_drop', 'head')  # what follows the blocks


class CLIPTIMMBackbone(CLIPTower):
    """A network of timm trained as CLIP's image tower.

    ViTs (SigLIP, EVA, PE-Core, ViTamin, MobileCLIP-B) have the pyramid of
    :class:`denseclip_mm.backbones.vit.CLIPVisionTransformer`. ConvNeXt and FastViT (MobileCLIP)
    give the map of every stage: four at strides 4 to 32; MobileCLIP2-S3 and S4 a fifth at 64.

    The dense embedding, of the last map's size (of a ViT: a patch a cell), is what the tower's
    pooling makes of each cell alone: its head where it pools by a mean or at a class token, and the
    values of its attention where that pools (as MaskCLIP does, Zhou et al. 2022, section 3.2).

    Position tables keep the tower's own grid and are interpolated to each input, as timm does.

    Args:
        out_indices: of a ViT, see :class:`denseclip_mm.backbones.vit.CLIPVisionTransformer`.
        dense_embedding: ``'attended'``; or, of a ViT, ``'value'``: after a last block in which each
            cell attends to itself alone, which passes the values on (MaskCLIP).
        sync_bn: of a ViT, see :class:`denseclip_mm.backbones.vit.CLIPVisionTransformer`.
        image_size: the training crop; such a tower needs not know it.
        model, pretrained, frozen_stages, norm_eval, with_cp, with_embeddings: see
            :class:`denseclip_mm.backbones.tower.CLIPTower`; a stage is a block of a ViT.

    Raises:
        ValueError: if the model is unknown, its tower is none of these networks, pools or projects
            otherwise, or has not what is asked for.

    Examples:
        >>> with torch.device('meta'):
        ...     backbone = CLIPTIMMBackbone(model='ViT-B-16-SigLIP2')
        ...     *maps, (image, dense) = backbone(torch.empty(2, 3, 512, 512))
        >>> [each.shape[-1] for each in maps], dense.shape
        ([128, 64, 32, 16], torch.Size([2, 768, 32, 32]))
    """

    def __init__(self, *, model: str | dict[str, Any], pretrained: str | None = None,
                 image_size: int | tuple[int, int] | None = None,
                 out_indices: Sequence[int] | None = None, dense_embedding: str = 'attended',
                 sync_bn: bool = True, frozen_stages: int = -1, norm_eval: bool = False,
                 with_cp: bool = False, with_embeddings: bool = True) -> None:
        super().__init__(model=model, pretrained=pretrained, image_size=image_size,
                         frozen_stages=frozen_stages, norm_eval=norm_eval, with_cp=with_cp,
                         with_embeddings=with_embeddings)
        self.tower = self._build()
        trunk = self.tower.trunk
        self.is_vit = hasattr(trunk, 'blocks')
        check_dense_embedding(dense_embedding,
                              ('attended', 'value') if self.is_vit else ('attended', ))
        self.dense_embedding = dense_embedding
        if self.is_vit:
            self.out_indices = check_out_indices(out_indices, len(trunk.blocks), model)
            self.pyramid = make_pyramid(trunk.embed_dim, sync_bn)
        elif out_indices is not None:
            raise ValueError(f'out_indices={tuple(out_indices)} is for ViTs; {model!r} gives the '
                             'map of each of its stages, leave it out')
        else:
            self.out_indices = list(range(len(trunk.stages)))
        trunk.set_grad_checkpointing(with_cp)
        whole = self.tower.state_dict()
        if not with_embeddings:
            trunk.prune_intermediate_layers(self.out_indices, prune_norm=True)
            self.tower.head = nn.Identity()
        self.unused = tuple(whole.keys() - self.tower.state_dict().keys())
        self.freeze()

    def _build(self) -> nn.Module:
        """open_clip's tower, at any input size; described first, on the meta device."""
        with torch.device('meta'):
            tower = self.build_tower('timm', timm_model_pretrained=False)
        trunk, vision = tower.trunk, self.config['vision_cfg']
        name, kind = vision['timm_model_name'], type(trunk).__name__
        if not isinstance(trunk, VisionTransformer | Eva | ConvNeXt | FastVit):
            raise ValueError(f'the image tower of {self.model!r} is the {kind} of timm; '
                             'CLIPTIMMBackbone takes ViTs (timm: VisionTransformer, Eva), '
                             'ConvNeXt and FastVit')
        is_vit = hasattr(trunk, 'blocks')
        pool = trunk.global_pool if is_vit else trunk.head.global_pool.pool_type
        projects = set(dict(tower.head.named_children())) <= {'drop', 'proj', 'mlp'}
        width = (trunk.num_features if vision.get('timm_proj') == 'none' else self.embed_dim)
        if not projects or pool not in (('token', 'avg', 'map') if is_vit else ('avg', )):
            raise ValueError(f'the tower of {self.model!r} has timm_pool='
                             f'{vision.get("timm_pool", "avg")!r}; CLIPTIMMBackbone takes '
                             + ("'token', 'avg' and 'map'" if is_vit else "'' and 'avg'"))
        if width != self.embed_dim:
            raise ValueError(f"the tower of {self.model!r} has timm_proj='none' and {width} "
                             f'channels, but embed_dim is {self.embed_dim}')
        if not is_vit:
            return self.build_tower('timm', timm_model_pretrained=False)
        tower.trunk = timm.create_model(
            name, num_classes=trunk.num_classes, global_pool=pool, dynamic_img_size=True,
            drop_path_rate=vision.get('timm_drop_path'))
        tower.head.to_empty(device=torch.get_default_device())
        for layer in tower.head.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        return tower

    def init_weights(self) -> None:
        """Load the pretrained weights, if any (errors: :func:`denseclip_mm.clip.load_tower`)."""
        self.load_pretrained(None, self.unused)

    def stages(self) -> list[list[nn.Module | nn.Parameter]]:
        """The stem (of a ViT with its tokens and positions); each block or stage; the head."""
        trunk = self.tower.trunk
        parts = dict(trunk.named_children())
        stages = parts.pop('blocks' if self.is_vit else 'stages')
        head = _VIT_HEAD if self.is_vit else parts.keys() - {'stem'}
        stem = [*trunk.parameters(recurse=False),
                *(part for name, part in parts.items() if name not in head)]
        heads = [part for name, part in parts.items() if name in head]
        return [stem, *([stage] for stage in stages),
                *([[*heads, self.tower.head]] if self.with_embeddings else [])]

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Feature maps of an image batch (B, 3, H, W), and the embedding pair."""
        return self._vit(x) if self.is_vit else self._hierarchy(x)

    def _hierarchy(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        trunk, head = self.tower.trunk, self.tower.head
        x, maps = trunk.forward_intermediates(x)
        if not self.with_embeddings:
            return tuple(maps)
        cells = x.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]  # each is a map of its own
        dense = head(trunk.forward_head(cells)).unflatten(0, (len(x), *x.shape[2:]))
        return (*maps, (head(trunk.forward_head(x)), dense.permute(0, 3, 1, 2)))

    def _vit(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        trunk, head = self.tower.trunk, self.tower.head
        patch, before_last = trunk.feature_info[0]['reduction'], len(trunk.blocks) - 2
        apart = self.with_embeddings and self.dense_embedding == 'value'
        indices = sorted({*self.out_indices, before_last} if apart else self.out_indices)
        size = x.shape[2] // patch, x.shape[3] // patch
        x = F.pad(x, (0, -(x.shape[3] % patch), 0, -(x.shape[2] % patch)))  # cut, as a slice would
        x_BND, taken = trunk.forward_intermediates(x, indices=indices)
        tokens = dict(zip(indices, taken, strict=True))
        maps = [scale(tokens[index])
                for scale, index in zip(self.pyramid, self.out_indices, strict=True)]
        if not self.with_embeddings:
            return tuple(maps)
        cells_BND = x_BND[:, trunk.num_prefix_tokens:]
        if apart:
            cells_BND = tokens[before_last].flatten(2).mT
            cells_BND = trunk.norm(trunk.blocks[-1](cells_BND, attn_mask=_self_alone(cells_BND)))
        if trunk.attn_pool is not None:
            cells_BND = _pooled_alone(trunk.attn_pool, cells_BND)
        dense_BNC = head(trunk.head(trunk.head_drop(trunk.fc_norm(cells_BND))))
        return (*maps, (head(trunk.forward_head(x_BND)), dense_BNC.mT.unflatten(2, size)))


def _self_alone(x_BND: Tensor) -> Tensor:
    """The attention mask (N, N) under which each token sees itself alone."""
    place = torch.arange(x_BND.shape[1], device=x_BND.device)
    return torch.where(place[:, None] == place, 0.0, float('-inf')).to(x_BND.dtype)


def _pooled_alone(pool: nn.Module, x_BND: Tensor) -> Tensor:
    """What an attention pool makes of each token alone: its value, whatever the query is."""
    value_BND = pool.kv(x_BND).chunk(2, dim=-1)[1]
    y_BND = pool.proj_drop(pool.proj(value_BND))
    return y_BND + pool.mlp(pool.norm(y_BND))
