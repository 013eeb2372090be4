"""DenseCLIP, as one neck. Read this file to understand the package.

    feature maps, (global, dense) <- backbone
    text        = text tower(prompt(class names))          (some prompts look at the image, too)
    text        = text + gamma * context decoder(text, [global, dense])
    score map   = cos(dense, text)
    outputs     = wrapped neck(feature maps, one of them with the score map concatenated), score map

Where the decode head itself takes the score map (``CostAggregationHead``), none is concatenated.

Shapes: B images, K classes, S prompts of their texts (synonyms too), N = 1 + H * W visual tokens,
C embedding channels, H, W size of the dense embedding.
"""

from collections.abc import Sequence
from typing import Any

from denseclip_mm.models.maps import checked_tau, concatenate, join_unused, widen
from denseclip_mm.models.views import view_of
from denseclip_mm.models.vocabulary import Vocabulary, read_class_names
from denseclip_mm.text import TextCache, TextEmbeddings

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


class PixelTextNeck(BaseModule):
    """Language guidance for a dense predictor (DenseCLIP, Rao et al. 2022, sections 3.2 and 3.3).

    Args:
        prompt: config of a :class:`denseclip_mm.text.Prompt`.
        class_names: a dataset alias known to mmseg, a file with a name a line, or the names;
            ``a;b`` are synonyms of one class.
        neck: config of the neck that takes the feature maps, or of several in a row. The first's
            ``in_channels[score_map_index]`` is that of the backbone; the K score maps are added
            here. None for heads that take the backbone's own maps.
        score_map_index: the feature map that the score map is concatenated to; it has to be of
            the dense embedding's size. None: to none, for a decode head that takes the score map;
            without a neck, too, the score map is the only output.
        text_encoder: config of the text tower; None with ``TextEmbeddings``.
        context_decoder: config of the post-model prompting; None leaves the text as it is.
        gamma: initial scale of the decoder's residual, one per channel.
        tau: divides the score map where it is concatenated (DenseCLIP's detectors: 0.07).
        output_score_map: append the score map (cosines in [-1, 1]) to the outputs.
        synonyms: how a class with several texts or prompts scores, see :class:`Vocabulary`.

    Raises:
        ValueError: if the class names are faulty (see :func:`read_class_names`), too long for the
            tower, ``score_map_index`` is no index of the neck's ``in_channels``, ``synonyms`` is
            none of the three, or ``tau`` is not over 0.
    """

    def __init__(self, *, prompt: dict[str, Any], class_names: str | Sequence[str],
                 neck: dict[str, Any] | list[dict[str, Any]] | None = None,
                 score_map_index: int | None = None,
                 text_encoder: dict[str, Any] | None = None,
                 context_decoder: dict[str, Any] | None = None, gamma: float = 1e-4,
                 tau: float = 1.0, output_score_map: bool = True, synonyms: str = 'best') -> None:
        super().__init__()
        vocabulary = Vocabulary(read_class_names(class_names), synonyms)
        self.score_map_index, self.tau = score_map_index, checked_tau(tau)
        self.output_score_map = output_score_map
        self.neck = self.num_maps = None
        if neck is not None:
            first, *rest = neck if isinstance(neck, list) else [neck]
            wider = widen(first, score_map_index, len(vocabulary.names))
            self.neck = MODELS.build([wider, *rest] if rest else wider)
            self.num_maps = len(wider['in_channels'])
        elif score_map_index is not None:
            self.neck = nn.Identity()
        if score_map_index is None and not output_score_map:
            raise ValueError('the score map would go nowhere; set score_map_index, or leave '
                             'output_score_map out')

        self.text_encoder = MODELS.build(text_encoder) if text_encoder is not None else None
        self.prompt = MODELS.build(
            prompt, default_args=dict(text_encoder=self.text_encoder, texts=vocabulary.texts))
        vocabulary.lay_out(self.prompt, self.text_encoder)
        self.vocabulary = self.decoder_vocabulary = vocabulary
        self.text_cache = TextCache()
        self.embed_dim: int = (self.text_encoder or self.prompt).embed_dim
        self.context_decoder = None
        if context_decoder is not None:
            self.context_decoder = MODELS.build(
                context_decoder, default_args=dict(embed_dim=self.embed_dim))
            self.gamma = nn.Parameter(torch.full((self.embed_dim, ), gamma))

    @property
    def class_names(self) -> list[str]:
        """The K names that the score map answers to."""
        return self.vocabulary.names

    @property
    def is_renamed(self) -> bool:
        """Whether the score map answers to other names than those of the maps concatenated."""
        return self.vocabulary is not self.decoder_vocabulary

    def init_weights(self) -> None:
        """Load the tower, then start the contexts from words if the prompt asks for it."""
        super().init_weights()
        self.prompt.start_from_words(self.text_encoder)

    def set_class_names(self, class_names: str | Sequence[str]) -> None:
        """Change the vocabulary of a built model; contexts and decoder carry over.

        A wrapped neck that score maps are concatenated for takes as many as it was built for, of a
        new vocabulary of that size; with another it goes on receiving those of its own classes.

        Raises:
            ValueError: if the prompt is class-specific, or the names are faulty; the model is then
                as before.
        """
        if self.prompt.class_specific:
            raise ValueError(f'{type(self.prompt).__name__} holds vectors of its own for every '
                             f'class; its {len(self.class_names)} names cannot be changed')
        vocabulary = Vocabulary(read_class_names(class_names), self.vocabulary.synonyms)
        vocabulary.lay_out(self.prompt, self.text_encoder)
        self.vocabulary = vocabulary.to(self.vocabulary.class_of_text.device)
        self.text_cache.drop()
        if (self.score_map_index is None
                or len(vocabulary.names) == len(self.decoder_vocabulary.names)):
            self.decoder_vocabulary = vocabulary

    def view(self, class_names: str | Sequence[str] | None = None, *,
             score_map_alone: bool = False) -> 'PixelTextNeck':
        """A neck with the weights of this one that outputs the score map; this one stays as it is.

        Args:
            class_names: that its score map answers to; None for those of this neck. What the
                wrapped neck gets concatenated stays the score map of this neck's own names.
            score_map_alone: leave the wrapped neck out; the score map is the only output.

        Raises:
            ValueError: as :meth:`set_class_names`.
        """
        view = view_of(self)
        view.output_score_map = True
        if score_map_alone:
            view.neck, view.score_map_index = None, None
        if class_names is not None:
            view.text_cache = TextCache().train(self.training)
            view.set_class_names(class_names)
            if not score_map_alone:
                view.decoder_vocabulary = self.decoder_vocabulary
        return view

    def drop_text_encoder(self) -> None:
        """Put the embeddings of the texts in the place of prompt and text tower, if there is one.

        Raises:
            ValueError: if the prompt asks the tower anew for every image, or the score map that is
                concatenated answers to other names than :attr:`class_names`.
        """
        if self.text_encoder is None:
            return
        if self.prompt.depends_on_image:
            raise ValueError(f'{type(self.prompt).__name__} asks the text tower anew for every '
                             'image, so the tower cannot be dropped; export such a model as ONNX, '
                             'by tools/export.py --formats onnx')
        if self.is_renamed and self.score_map_index is not None:
            raise ValueError(f'the decoder takes {len(self.decoder_vocabulary.names)} score maps, '
                             f'but the names were changed to {len(self.class_names)}; drop the '
                             'text tower with as many names as the model was built for')
        vocabulary = self.decoder_vocabulary = self.vocabulary
        with torch.no_grad():
            embeddings_SC = self.prompt(self.text_encoder, vocabulary.trees)[0]
        prompt = TextEmbeddings(embed_dim=self.embed_dim, texts=vocabulary.texts,
                                num_prompts=self.prompt.num_prompts).to(embeddings_SC)
        prompt.embeddings.copy_(embeddings_SC)
        vocabulary.trees = nn.ModuleList()
        self.prompt, self.text_encoder = prompt.train(self.training), None

    def forward(self, inputs: Sequence[Tensor | tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        """Join language and image.

        Args:
            inputs: feature maps (B, C_i, H_i, W_i), and last the pair of the global embedding
                (B, C) and the dense embedding (B, C, H, W).

        Returns:
            The wrapped neck's outputs, or the maps that a neck would have taken, then the score
            map (B, K, H, W) if ``output_score_map``; with neither neck nor ``score_map_index``
            the score map alone.

        Raises:
            ValueError: if the embeddings are not the text tower's size, the dense embedding is not
                of the size of feature map ``score_map_index``, or the wrapped neck takes another
                number of maps.
        """
        maps, (image_BC, dense_BCHW) = list(inputs[:-1]), inputs[-1]
        self.check_embed_dim(dense_BCHW.shape[1])
        looks = self.context_decoder is not None or self.prompt.depends_on_image
        dense_BCHW = join_unused(dense_BCHW, *([] if looks else [image_BC]),
                                 *(maps if self.neck is None else []))
        tokens_BNC = torch.cat([image_BC[:, :, None], dense_BCHW.flatten(2)], dim=2).mT
        joined = self.vocabulary if self.score_map_index is None else self.decoder_vocabulary
        score_map = self.score_map(joined, tokens_BNC, dense_BCHW)
        outputs = ()
        if self.neck is not None:
            outputs = tuple(self.neck(concatenate(
                maps, score_map, self.score_map_index, self.tau, self.num_maps)))
        if not self.output_score_map:
            return outputs
        if self.vocabulary is not joined:
            score_map = self.score_map(self.vocabulary, tokens_BNC, dense_BCHW)
        return (*outputs, score_map)

    def score_map(self, vocabulary: Vocabulary, tokens_BNC: Tensor, dense_BCHW: Tensor) -> Tensor:
        """Cosine of every cell with every class (section 3.2): (B, K, H, W)."""
        text_BSC = self.text_embeddings(vocabulary, tokens_BNC).to(dense_BCHW.dtype)
        if self.context_decoder is not None:
            text_BSC = text_BSC.expand(dense_BCHW.shape[0], -1, -1)
            text_BSC = text_BSC + self.gamma * self.context_decoder(text_BSC, tokens_BNC)
        text_BSC = F.normalize(text_BSC, dim=2)
        cells_BCN = F.normalize(dense_BCHW, dim=1).flatten(2)
        score_BSHW = (text_BSC @ cells_BCN).unflatten(2, dense_BCHW.shape[2:])
        return vocabulary.score_of_classes(score_BSHW)

    def text_embeddings(self, vocabulary: Vocabulary, tokens_BNC: Tensor) -> Tensor:
        """Embeddings of the texts: (B, S, C) if the prompt depends on the image, else (1, S, C).

        Those that do not are computed once and kept, unless they are being learned.
        """
        if self.text_encoder is None or self.prompt.depends_on_image:
            return self.prompt(self.text_encoder, vocabulary.trees, tokens_BNC)
        return self.text_cache(self.prompt, self.text_encoder, vocabulary.trees)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str,
                              *args: Any) -> None:
        # mmengine loads what fits and only warns of the rest: a random model, seemingly loaded.
        if prefix + 'lateral_convs.0.conv.weight' in state_dict:  # the FPN itself was the neck
            raise ValueError('the neck of this checkpoint is an FPN, not a PixelTextNeck: a model '
                             'without language, or a published one for mmseg 0.x, which '
                             'tools/convert_checkpoint.py converts')
        super()._load_from_state_dict(state_dict, prefix, *args)

    def check_embed_dim(self, channels: int) -> None:
        """Raise a ValueError if the backbone's embeddings have other channels than the text's."""
        if channels != self.embed_dim:
            raise ValueError(f'the image is embedded in {channels} channels, the text in '
                             f'{self.embed_dim}; use the image and text tower of one model, or set '
                             f'embed_dim of AlignedBackbone to {self.embed_dim}')
