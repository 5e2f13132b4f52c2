"""Open-Sora 1.2 as a diffusers pipeline: a prompt to a clip, by rectified flow with classifier-free guidance.

    pipe = OpenSoraPipeline.from_pretrained(torch_dtype=torch.bfloat16).to("cuda")
    frames = pipe("a beautiful waterfall", generator=torch.Generator().manual_seed(42)).frames[0]

Differences from the original are of precision only: timesteps, rotary angles and position embeddings are computed, the
first noise drawn and the last latents scaled in float32, where the original rounds all of them to bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor

from stg_eval.generators.guidance import equations
from stg_eval.generators.opensora import text
from stg_eval.generators.opensora.hub import TEXT_ENCODER, TRANSFORMER, VAE
from stg_eval.generators.opensora.sizes import FPS_OF_IMAGES, latent_size, timestep_shift
from stg_eval.generators.opensora.stdit3 import STDiT3
from stg_eval.generators.opensora.vae import OpenSoraVAE
from stg_eval.types import StgEvalError


@dataclass
class OpenSoraPipelineOutput(BaseOutput):
    frames: Any
    """By output_type: "np" float32 [B, T, H, W, 3] in 0..1, "pt" [B, T, 3, H, W], "pil" lists, "latent" latents."""


def rectified_flow() -> FlowMatchEulerDiscreteScheduler:
    """Return Open-Sora's scheduler. Its sigmas are 1 - noise level, since the model predicts x0 - noise, as Mochi's
    does."""
    return FlowMatchEulerDiscreteScheduler(invert_sigmas=True)


class OpenSoraPipeline(DiffusionPipeline):
    """Text to video. Batch rows of the transformer are [conditional, unconditional]."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _optional_components = ["tokenizer", "text_encoder"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        transformer: STDiT3,
        vae: OpenSoraVAE,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        width = transformer.config.caption_channels
        if text_encoder is not None and text_encoder.config.d_model != width:
            raise StgEvalError(
                f"the text encoder gives {text_encoder.config.d_model} features a token and the model reads {width}; "
                "Open-Sora 1.2 needs T5-v1.1-XXL"
            )
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, transformer=transformer, vae=vae, scheduler=scheduler
        )
        self.video_processor = VideoProcessor(vae_scale_factor=8)
        # a copy, since the transformer's own has no values while its layers are offloaded
        null_text: Any = transformer.y_embedder.y_embedding
        self._null_text = null_text.detach().to("cpu", copy=True)

    @classmethod
    def from_pretrained(
        cls,
        transformer: str = TRANSFORMER,
        vae: str = VAE,
        text_encoder: str | None = TEXT_ENCODER,
        torch_dtype: torch.dtype = torch.bfloat16,
    ) -> OpenSoraPipeline:
        """Each part from a local folder or a hub id (`owner/name@revision`); text_encoder=None leaves it out, for use
        with prompt_embeds. The text encoder stays float32, as in the original (19 GB).

        Raises StgEvalError where a part is missing, incomplete or of another kind.
        """
        denoiser = STDiT3.from_pretrained(transformer, torch_dtype)
        autoencoder = OpenSoraVAE.from_pretrained(vae, torch_dtype)
        # The largest comes last: a mistake in the other two is found before 19 GB are fetched.
        tokenizer, encoder = text.load_text_encoder(text_encoder) if text_encoder else (None, None)
        return cls(tokenizer, encoder, denoiser, autoencoder, rectified_flow())

    def encode_prompt(
        self,
        prompt: str | Sequence[str],
        aesthetic_score: float | None = 6.5,
        motion_score: float | None = None,
        camera_motion: str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return T5 features [B, 300, 4096] of the prompts with their scores, and the mask [B, 300] of real tokens."""
        if self.text_encoder is None:
            raise StgEvalError("this pipeline has no text encoder: give prompt_embeds and prompt_attention_mask")
        prompts = [prompt] if isinstance(prompt, str) else prompt
        texts = [text.clean(text.with_scores(p, aesthetic_score, motion_score, camera_motion)) for p in prompts]
        longest = self.transformer.config.model_max_length
        return text.encode(texts, self.tokenizer, self.text_encoder, longest, self._execution_device)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        height: int = 240,
        width: int = 426,
        num_frames: int = 51,
        fps: float = 24.0,
        num_inference_steps: int = 30,
        guidance_scale: float = 7.0,
        aesthetic_score: float | None = 6.5,
        motion_score: float | None = None,
        camera_motion: str | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        frame_mask: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Tensor, dict[str, Tensor]], dict[str, Tensor]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Make one clip for each prompt.

        height, width: in pixels; the clip comes out with both rounded down to multiples of 8 (240x426 gives 240x424,
        as in the original). num_frames: 1, or 17 and more. fps: told to the model; 120 is told for one frame.
        guidance_scale: 1 leaves the unconditional rows out. generator: one, or one for each prompt; CPU generators give
        the same noise on every device. latents: float32 [B, 4, T', H // 8, W // 8], noise, and for image or video
        conditions also given frames (`vae.encode`), which `frame_mask` names: [B, T'], 1 = made from noise, 0 = given
        and kept, between = given and edited from that noise level on. prompt_embeds, prompt_attention_mask:
        [B, L, 4096] and [B, L] instead of a prompt.

        Returns OpenSoraPipelineOutput, or a tuple of its frames. Raises StgEvalError for inputs that do not fit.
        """
        shift = timestep_shift(num_frames, height, width)
        if (prompt is None) == (prompt_embeds is None):
            raise StgEvalError("give either prompt or prompt_embeds")
        if prompt is not None:
            prompt_embeds, prompt_attention_mask = self.encode_prompt(
                prompt, aesthetic_score, motion_score, camera_motion
            )
        if prompt_embeds is None or prompt_attention_mask is None:
            raise StgEvalError("give prompt_attention_mask with prompt_embeds: it says which tokens are real")
        if prompt_embeds.shape[1] > (longest := self.transformer.config.model_max_length):
            raise StgEvalError(f"prompt_embeds hold {prompt_embeds.shape[1]} tokens, the model reads {longest} at most")
        device, batch = self._execution_device, len(prompt_embeds)
        latents = self._prepare_latents(latents, (batch, *latent_size(num_frames, height, width)), generator, device)
        self._guidance_scale = guidance_scale
        embeds, mask = self._with_null_text(prompt_embeds.to(device), prompt_attention_mask.to(device))
        told_fps = torch.full((len(embeds),), FPS_OF_IMAGES if num_frames == 1 else fps, device=device)

        self.scheduler.set_shift(shift)
        sigmas = 1 - np.arange(num_inference_steps) / num_inference_steps
        self.scheduler.set_timesteps(sigmas=sigmas.tolist(), device=device)
        given = None if frame_mask is None else _GivenFrames(frame_mask.to(device))
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            for i, timestep in enumerate(self.scheduler.timesteps):
                t = 1000 - timestep  # the model is told the noise, which falls; the scheduler's clock runs to the clip
                if given:
                    latents = given.begin_step(latents, t, generator)
                repeats = len(embeds) // batch
                prediction = self.transformer(
                    latents.repeat(repeats, 1, 1, 1, 1),
                    t.expand(len(embeds)),
                    embeds,
                    mask,
                    fps=told_fps,
                    height=height,
                    width=width,
                    frame_mask=given.made.repeat(repeats, 1) if given else None,
                )[:, : latents.shape[1]]
                if self.do_classifier_free_guidance:
                    conditional, unconditional = prediction.chunk(2)
                    prediction = equations.cfg(unconditional, conditional, guidance_scale)
                stepped = self.scheduler.step(prediction, timestep, latents, return_dict=False)[0]
                latents = given.end_step(stepped, latents) if given else stepped
                if callback_on_step_end is not None:
                    tensors = {"latents": latents, "prompt_embeds": prompt_embeds}
                    asked = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    latents = callback_on_step_end(self, i, timestep, asked).get("latents", latents)
                bar.update()

        frames = latents if output_type == "latent" else self.decode_latents(latents, num_frames, output_type)
        self.maybe_free_model_hooks()
        return OpenSoraPipelineOutput(frames=frames) if return_dict else (frames,)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor, num_frames: int, output_type: str = "np") -> Any:
        """Return frames of latents [B, 4, T', H', W'], as OpenSoraPipelineOutput describes them."""
        video = self.vae.decode(latents, num_frames).float()
        return self.video_processor.postprocess_video(video, output_type=output_type)

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale != 1

    def _prepare_latents(
        self, latents: Tensor | None, size: tuple[int, int, int, int], generator: Any, device: torch.device
    ) -> Tensor:
        batch, frames, height, width = size
        shape = (batch, self.transformer.config.in_channels, frames, height, width)
        if height < 1 or width < 1:
            raise StgEvalError("height and width must be at least 8")
        if isinstance(generator, list) and len(generator) != batch:
            raise StgEvalError(f"{len(generator)} generators for {batch} clips; give one, or one for each")
        if latents is None:
            return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        if latents.shape != shape:
            raise StgEvalError(f"latents are {list(latents.shape)}, this clip needs {list(shape)}")
        return latents.to(device, torch.float32)

    def _with_null_text(self, embeds: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows for the unconditional half: the learned null text, under the mask of the prompt beside it."""
        if not self.do_classifier_free_guidance:
            return embeds, mask
        null = self._null_text[: embeds.shape[1]].to(embeds)
        return torch.cat([embeds, null.expand_as(embeds)]), torch.cat([mask, mask])


class _GivenFrames:
    """Keeps given frames as they are until the noise has fallen to the level from which they are to be edited."""

    def __init__(self, frame_mask: Tensor) -> None:
        self.levels = frame_mask * 1000  # [B, T'], on the scale of timesteps
        self.made = frame_mask == 1
        """Frames that this step denoises, bool [B, T']."""

    def begin_step(self, latents: Tensor, t: Tensor, generator: Any) -> Tensor:
        made = self.levels >= t
        joining = made & ~self.made
        self.made = made
        if not joining.any():
            return latents
        noise = randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
        noisy = (1 - t / 1000) * latents + t / 1000 * noise
        return torch.where(joining[:, None, :, None, None], noisy, latents)

    def end_step(self, stepped: Tensor, before: Tensor) -> Tensor:
        return torch.where(self.made[:, None, :, None, None], stepped, before)
