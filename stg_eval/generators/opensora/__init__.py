"""Open-Sora 1.2, text to video: a port on torch, diffusers and transformers that loads the published checkpoints as is.

card: the model for plans, presets with the paper's values. pipeline: usable on its own,
`from stg_eval.generators.opensora.pipeline import OpenSoraPipeline`. stdit3: the denoiser. vae, temporal_vae: the
autoencoder. text: prompts to features. sizes: clips, latents, noise schedule. checkpoint, hub: files, and where they
lie. small: the same with random weights, for trying out and timing. card, sizes, checkpoint and hub import no torch.
"""
