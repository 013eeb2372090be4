"""The tokenizers of text towers, CLIP's own and those of Hugging Face, as prompts need them.

Attributes of both:
    start, end: the tokens before and after a text.
    pad: the token that fills a sequence up.
    vocab_size: number of tokens.
"""

from functools import cache, cached_property
from pathlib import Path
from typing import Any

from denseclip_mm.clip import fault_of, quiet_hub

import open_clip
from open_clip.tokenizer import HFTokenizer, get_clean_fn

_PROBE = 'a'  # is laid out to see what a tokenizer puts before and after a text


class CLIPTokenizer(open_clip.SimpleTokenizer):
    """CLIP's byte pairs (Radford et al. 2021, section 2.4), which open_clip carries.

    Examples:
        >>> tokenizer = CLIPTokenizer()
        >>> tokenizer.start, tokenizer.encode('a red star'), tokenizer.end
        ([49406], [320, 736, 1565], [49407])
    """

    pad = 0

    @property
    def start(self) -> list[int]:
        """Start of text."""
        return [self.sot_token_id]

    @property
    def end(self) -> list[int]:
        """End of text."""
        return [self.eot_token_id]

    def readable(self, token: int) -> str:
        """A token for people: a word, or with a hyphen ('photo-') a part that more has to follow.

        A part of a character, or what cannot be printed, is given by its bytes ('<f0 9f>').
        """
        symbols = self.decoder[token]
        text = self.decode([token]).strip()
        if not text or not text.isprintable() or '\ufffd' in text:
            bare = symbols.removesuffix('</w>')
            text = f'<{bytes(self.byte_decoder[symbol] for symbol in bare).hex(" ")}>'
        whole = symbols.endswith('</w>') or token in self.all_special_ids
        return text if whole else f'{text}-'


class HuggingFaceTokenizer:
    """A tokenizer of Hugging Face, as open_clip uses it; read when the first text is tokenized.

    Args:
        source: a name on the Hugging Face hub, a folder, or a file in one.
        options: ``tokenizer_kwargs`` of open_clip's text config.
    """

    def __init__(self, source: str, options: dict[str, Any]) -> None:
        self.source = source
        self.options = options
        self._clean = get_clean_fn(options.get('clean', 'whitespace'))

    @cached_property
    def _tokenizer(self) -> Any:
        """What transformers makes of the source.

        Raises:
            ImportError: if transformers is not installed.
            FileNotFoundError: if the source is not there and cannot be fetched.
            ValueError: if it is no tokenizer, or does not say its padding.
        """
        path = Path(self.source).expanduser()
        name = str(path.parent if path.is_file() else path) if path.exists() else self.source
        where = ('; give the folder that it is in as tokenizer= of the text tower, copied from a '
                 f'machine with a network if need be (its tokenizer.json and '
                 f'tokenizer_config.json, of https://huggingface.co/{self.source})')
        try:
            with quiet_hub():
                made = HFTokenizer(name, trust_remote_code=False, **self.options)
        except ModuleNotFoundError as error:
            raise ImportError(
                f'the tokenizer {self.source!r} is one of Hugging Face, and {error.name} is not '
                "installed; pip install 'denseclip_mm[transformers]'") from error
        except Exception as error:  # transformers and its hub raise many kinds
            kind = ValueError if path.exists() else FileNotFoundError
            raise kind(f'the tokenizer {self.source!r} could not be read '
                       f'({fault_of(error)})' + ('' if path.exists() else where)) from error
        if made.tokenizer.pad_token_id is None:
            raise ValueError(f'the tokenizer {self.source!r} does not say its padding token'
                             + where)
        return made.tokenizer

    @cached_property
    def _ends(self) -> tuple[list[int], list[int]]:
        """What is put before and after a text, as open_clip leaves it."""
        inner = self.encode(_PROBE)
        whole = self._tokenizer(_PROBE).input_ids
        if self.options.get('strip_sep_token'):  # CLIPA
            whole = [0 if token == self._tokenizer.sep_token_id else token for token in whole]
        for first in range(len(whole)):
            last = first + len(inner)
            if inner and whole[first:last] == inner:
                return whole[:first], whole[last:]
        raise ValueError(f'the tokenizer {self.source!r} tokenizes {_PROBE!r} as {inner}, but with '
                         f'its special tokens as {whole}')

    @property
    def start(self) -> list[int]:
        """What goes before a text; nothing for SigLIP."""
        return self._ends[0]

    @property
    def end(self) -> list[int]:
        """What goes after a text."""
        return self._ends[1]

    @property
    def pad(self) -> int:
        """What sequences are filled up with."""
        return self._tokenizer.pad_token_id

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without start and end."""
        return self._tokenizer(self._clean(text), add_special_tokens=False).input_ids

    def readable(self, token: int) -> str:
        """A token for people."""
        return self._tokenizer.decode([token]).strip() or (
            self._tokenizer.convert_ids_to_tokens(token))


@cache
def _clip_tokenizer(**options: Any) -> CLIPTokenizer:
    return CLIPTokenizer(**options)  # towers share it: it has no state


def tokenizer_of(text_cfg: dict[str, Any],
                 source: str | None = None) -> CLIPTokenizer | HuggingFaceTokenizer:
    """The tokenizer of an open_clip text config.

    Args:
        text_cfg: of the model config.
        source: where Hugging Face's is read from instead: a folder, or a file in one.

    Raises:
        ValueError: if a source is given for CLIP's own tokenizer.
    """
    options = text_cfg.get('tokenizer_kwargs') or {}
    name = text_cfg.get('hf_tokenizer_name')
    if name:
        return HuggingFaceTokenizer(source or name, options)
    if source is not None:
        raise ValueError(f"tokenizer={source!r}, but this text tower has CLIP's own tokenizer; "
                         'leave tokenizer out')
    return _clip_tokenizer(**options)
