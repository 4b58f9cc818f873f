"""Small tokenizers with the habits that make the border between prompt and answer hard."""

from __future__ import annotations

import string

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_SPECIALS = ("<unk>", "<s>", "</s>")


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level like GPT-2's: merges a space with the `y` after it, and two line breaks into one token."""
    letters = [*string.printable[:95].replace(" ", ""), "Ġ", "Ċ"]
    vocab = {token: index for index, token in enumerate([*_SPECIALS, *letters, "Ġy", "ĊĊ"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("Ġ", "y"), ("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIALS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<unk>")


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """Like Llama 2's: puts a space before every text and a beginning-of-text token before that, merges ` y`."""
    letters = [*string.printable[:95].replace(" ", ""), "▁", "<0x0A>"]
    vocab = {token: index for index, token in enumerate([*_SPECIALS, *letters, "▁y"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "y")], byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
