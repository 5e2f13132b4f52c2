"""Guides a plain diffusers pipeline: LTX-Video's own classes, small and with random weights, so that it runs anywhere.

    python examples/guided_pipeline.py

The pipeline's call stays as it was. `guided` goes around its denoiser, and everything is restored afterwards.
"""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel

from stg_eval import Guidance
from stg_eval.generators.guidance import LayerMap, guided, stack

LAYERS = LayerMap(model="LTX-Video", layers=stack(joint="transformer_blocks"), unbatched=("rope_interpolation_scale",))
"""Where the layers are: a module list whose blocks attend over space and time jointly. Maps of the models that stg-eval
knows stand in `stg_eval/generators/`."""


def main() -> None:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=12, num_layers=4,
        cross_attention_dim=24, caption_channels=32,
    )  # fmt: skip
    pipeline = LTXPipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=None,
        text_encoder=None,
        tokenizer=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    text, no_text = torch.randn(2, 1, 6, 32)
    seen = torch.ones(1, 6, dtype=torch.bool)

    def draw(guidance: Guidance) -> torch.Tensor:
        with guided(pipeline.transformer, guidance, LAYERS, batch_order="uc"):
            return pipeline(
                prompt_embeds=text,
                prompt_attention_mask=seen,
                negative_prompt_embeds=no_text,
                negative_prompt_attention_mask=seen,
                guidance_scale=guidance.cfg_scale,
                height=64,
                width=96,
                num_frames=17,
                num_inference_steps=4,
                generator=torch.Generator().manual_seed(7),  # the same noise for every guidance
                output_type="latent",
            ).frames

    cfg, stg = draw(Guidance.parse("cfg3")), draw(Guidance.parse("cfg3+stg-a[2]w1"))
    again = draw(Guidance.parse("cfg3"))
    print(f"STG moved the latents {list(stg.shape)} by {(stg - cfg).norm() / cfg.norm():.1%} of their norm")
    print(f"CFG before and after STG: {'equal to the bit' if torch.equal(cfg, again) else 'different'}")


if __name__ == "__main__":
    main()
