"""CogVideoX-5B I2V: image to video. Not in the paper's tables. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stg_eval.generators import cogvideox
from stg_eval.generators.diffusers_video import DiffusersModel, text_arguments
from stg_eval.generators.first_frame import first_frame
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.types import Request, StgEvalError
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="cogvideox-i2v",
    needed_by="model cogvideox-i2v",
    licence="CogVideoX License",
    size=21_500_000_000,
    repo="THUDM/CogVideoX-5b-I2V",
    files=cogvideox.CHECKPOINT.files,
)


def arguments(request: Request) -> dict[str, Any]:
    """Return text, and the first frame."""
    fit = str(dict(request.settings).get("image_fit", "stretch"))
    return {**text_arguments(request), "image": first_frame(request, fit)}


def small() -> Any:
    """See `DiffusersModel.small`. The transformer sees latents and the first frame's latents; the published one has
    learned where its tokens are, which would tie clips to one size."""
    from diffusers import CogVideoXImageToVideoPipeline

    return CogVideoXImageToVideoPipeline(**cogvideox.small(in_channels=8).components)


class CogVideoXI2V(DiffusersModel):
    """A model whose published transformer knows the places of one size."""

    def check(self, request: Request) -> None:
        """See `Model.check`."""
        super().check(request)
        size = (self.card.height, self.card.width)
        if request.weights == self.card.weights and (request.height, request.width) != size:
            raise StgEvalError(f"{self.card.name} makes {size[0]}x{size[1]} only, not {request.height}x{request.width}")


MODEL = CogVideoXI2V(
    card=replace(
        cogvideox.MODEL.card,
        name="cogvideox-i2v",
        title="CogVideoX-5B I2V",
        weights=CHECKPOINT.source,
        task="image-to-video",
        settings={**MEMORY_SETTINGS, "image_fit": "stretch"},
    ),
    pipeline="CogVideoXImageToVideoPipeline",
    small=small,
    arguments=arguments,
    layer_map=cogvideox.MODEL.layer_map,
    smoke=cogvideox.MODEL.smoke,
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=8,
)
