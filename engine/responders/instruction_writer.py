"""The request for one question about an image, made from nothing but the image's text-to-image prompt.

Synth-Align asked GPT-4 for this and did not publish its request; `META_PROMPT` is ours.
"""

from ...base.errors import PrefmillError

META_PROMPT = (
    "An image was made from this description:\n\n{prompt}\n\n"
    "Write one question or request that a person looking at the image might address to an assistant. It must be "
    "answerable from the image, must not mention the description, and should call for a detailed answer. "
    "Write the question only."
)
"""The default request; `{prompt}` is replaced by the text-to-image prompt."""


def instruction_request(prompt: str, meta_prompt: str = META_PROMPT) -> str:
    """Return what a model is asked to write a question from. Raises PrefmillError for a request without {prompt}."""
    if "{prompt}" not in meta_prompt:
        raise PrefmillError(f"the meta-prompt {meta_prompt[:80]!r} lacks {{prompt}}.", "write {prompt} into it")
    return meta_prompt.replace("{prompt}", prompt)  # not `format`: a prompt may hold braces, and so may the request
