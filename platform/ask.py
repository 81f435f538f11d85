"""Asking a served model one question about one image, through the ``openai`` client as any user would."""

import base64

from openai import APIConnectionError, APIStatusError, OpenAI
from openai.types.chat import ChatCompletionContentPartParam

from residency.platform.errors import RoleError


def data_url(image_png: bytes) -> str:
    """A PNG as a data URL, the form in which an image travels in an OpenAI chat request."""
    return f"data:image/png;base64,{base64.b64encode(image_png).decode()}"


def ask(
    url: str,
    api_key: str,
    model: str,
    image_png: bytes | None,
    prompt: str,
    *,
    max_tokens: int = 64,
    temperature: float = 0.0,
    deadline_seconds: float = 60.0,
) -> str:
    """The completion's raw text of one chat turn, the image first as in training; ``split_reasoning`` takes it apart.

    ``url`` ends with ``/v1``; ``prompt`` is ``render_prompt``'s text.
    Raises RoleError with the server's own words where it refuses, or where nothing answers before the deadline.
    """
    content: list[ChatCompletionContentPartParam] = []
    if image_png is not None:
        content.append({"type": "image_url", "image_url": {"url": data_url(image_png)}})
    content.append({"type": "text", "text": prompt})
    client = OpenAI(base_url=url, api_key=api_key, timeout=deadline_seconds, max_retries=1)
    try:
        completion = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": content}],
            max_tokens=max_tokens,
            temperature=temperature,
            extra_body={"skip_special_tokens": True},
        )
    except APIStatusError as error:
        raise RoleError(
            f"the server answered {error.status_code}: {error.message}", "a completion", "check key, model and image"
        ) from error
    except APIConnectionError as error:
        raise RoleError(
            f"no answer from {url} ({error.__cause__ or error})", "a running server", "start it with `residency serve`"
        ) from error
    finally:
        client.close()
    return completion.choices[0].message.content or ""
