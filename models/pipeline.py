"""A text-to-image pipeline as one net of pure methods: text in, noise and clean latents out, and latents to pixels and back."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.errors import BadInput, LabError

if TYPE_CHECKING:
    from models.model import Model

FLOW = "FlowMatch"  # schedulers whose name begins so mix signal and noise in a straight line
PREDICTS = ("epsilon", "sample", "v_prediction", "flow")


class Pipeline(nn.Module):
    """The parts of a latent diffusion model. `net` of a `models.model.Model`, so read only.

    `denoiser` is a UNet or a transformer, `text` (and in XL models `text_2`) a CLIP text encoder, `vae` an AutoencoderKL. No method keeps anything between
    calls, all take any batch, and all but `scheduler` and `schedule` can be differentiated. Latents and embeddings go in and come out in float32; inside,
    every part works in its own dtype. `t` is a timestep, 0 (clean) to 999 (noise): one number, or one a row.

    An embedding is what the denoiser reads of a prompt: one row a token. In models that also read a summary of the whole prompt (XL), the summary is one
    further row at the end, filled up with zeros, so that an embedding is one tensor everywhere. `width` and `tokens` count that row in.
    """

    task = "pictures"
    alphas: Tensor  # signal squared at every timestep of the training; empty in a flow model

    def __init__(self, denoiser: nn.Module, text: nn.Module, vae: nn.Module, scheduler_config: Mapping[str, Any], *, text_2: nn.Module | None = None,
                 pad_2: int | None = None, blank_is_zero: bool = False) -> None:
        """`pad_2` fills up a prompt for `text_2`, where that differs; `blank_is_zero`: no prompt is an embedding of zeros, as in XL models.

        Raises `LabError` on a scheduler whose prediction is none that is known.
        """
        super().__init__()
        self.denoiser, self.text, self.vae, self.text_2 = denoiser, text, vae, text_2
        self.pad_2, self.blank_is_zero = pad_2, blank_is_zero
        self.flow = str(scheduler_config.get("_class_name", "")).startswith(FLOW)
        self.scheduler_config: dict[str, Any] = dict(scheduler_config)
        made = self.scheduler(1)
        self.scheduler_config = dict(made.config)  # what the file leaves out is filled in
        self.predicts = "flow" if self.flow else str(self.scheduler_config["prediction_type"])
        if self.predicts not in PREDICTS:
            raise LabError(f"the denoiser predicts {self.predicts!r}", f"the lab reads {', '.join(PREDICTS)}", "Choose another pipeline")
        self.register_buffer("alphas", torch.empty(0) if self.flow else made.alphas_cumprod.float(), persistent=False)

    # ---- text

    @property
    def tokens(self) -> int:
        """Rows of an embedding: the tokens of a prompt, filled up, and the summary where there is one."""
        return self.length + bool(self.summary)

    @property
    def length(self) -> int:
        """Tokens of a prompt, those that begin and end it and fill it up among them."""
        config: Any = self.text.config
        return config.max_position_embeddings

    @property
    def summary(self) -> int:
        """Width of the summary of a prompt that the denoiser reads beside its tokens; 0 where it reads none."""
        config: Any = self.denoiser.config
        if getattr(config, "addition_embed_type", None) == "text_time":
            return config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        return getattr(config, "pooled_projection_dim", None) or 0

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of the (first) text encoder, as `models.model.embedding` asks for it."""
        text: Any = self.text
        return text.get_input_embeddings()

    def embed(self, ids: Int[Tensor, "n tokens"]) -> Float[Tensor, "n rows width"]:
        """What the denoiser reads of prompts that `words` turned into ids."""
        first, whole = self._encode(self.text, ids)
        if self.text_2 is not None:
            second, whole = self._encode(self.text_2, self._padded(ids))
            first = torch.cat([first, second], -1)
        if not self.summary:
            return first
        row = nn.functional.pad(whole, (0, first.shape[-1] - whole.shape[-1]))
        return torch.cat([first, row[:, None]], 1)

    def blank(self, ids: Int[Tensor, "n tokens"]) -> Float[Tensor, "n rows width"]:
        """The embedding of no prompt at all, which guidance steers away from. `ids` are those of the empty prompt."""
        empty = self.embed(ids)
        return torch.zeros_like(empty) if self.blank_is_zero else empty

    def _encode(self, text: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The states of the tokens and the summary of one encoder. XL models read the states before the last block."""
        out = text(ids, output_hidden_states=True) if self.text_2 is not None else text(ids)
        states = out.hidden_states[-2] if self.text_2 is not None else out.last_hidden_state
        whole = out.text_embeds if getattr(out, "text_embeds", None) is not None else out.pooler_output
        return states.float(), whole.float()

    def _padded(self, ids: Tensor) -> Tensor:
        """The ids as the second encoder wants them filled up: all after the first end of the prompt."""
        if self.pad_2 is None:
            return ids
        text: Any = self.text_2
        ends = ids == text.config.eos_token_id
        after = ends.int().cumsum(1) - ends.int() > 0
        return ids.masked_fill(after, self.pad_2)

    # ---- noise

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent, at the size that the model was grown at."""
        config: Any = self.denoiser.config
        size = config.sample_size
        high, wide = size if isinstance(size, (list, tuple)) else (size, size)
        return config.in_channels, high, wide

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of a picture."""
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        return self.latent_shape[1] * factor, self.latent_shape[2] * factor

    def clipped(self, clean: Tensor) -> Tensor:
        """Clean latents as the scheduler bounds them, where it does."""
        if self.flow or not self.scheduler_config["clip_sample"]:
            return clean
        most = self.scheduler_config["clip_sample_range"]
        return clean.clamp(-most, most)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(signal, noise) in a latent at timestep `t`: x_t = signal * x_0 + noise * eps. Before the first timestep, t < 0, what the scheduler ends at."""
        if self.flow:
            sigma = t.float().clamp(0) / 1000
            return 1 - sigma, sigma
        last = self.alphas.new_ones(()) if self.scheduler_config["set_alpha_to_one"] else self.alphas[0]
        alpha = torch.where(t < 0, last, self.alphas[t.long().clamp(0)])
        return alpha.sqrt(), (1 - alpha).sqrt()

    def predict(self, latents: Float[Tensor, "n c h w"], t: Tensor | float | int, embedding: Float[Tensor, "n rows width"]) -> tuple[Tensor, Tensor]:
        """(noise, clean) as the denoiser sees them in `latents`, from one pass, whatever it was trained to predict."""
        steps = torch.as_tensor(t, device=latents.device).expand(len(latents))
        signal, sigma = (level[:, None, None, None] for level in self.levels(steps))
        out = self._output(latents, steps, embedding).float()
        if self.predicts == "epsilon":
            return out, (latents - sigma * out) / signal
        if self.predicts == "sample":
            return (latents - signal * out) / sigma, out
        if self.predicts == "v_prediction":
            return signal * out + sigma * latents, signal * latents - sigma * out
        return latents + signal * out, latents - sigma * out

    def noise(self, latents: Float[Tensor, "n c h w"], t: Tensor | float | int, embedding: Float[Tensor, "n rows width"]) -> Float[Tensor, "n c h w"]:
        """The noise that the denoiser sees in `latents`, in units of its standard deviation."""
        return self.predict(latents, t, embedding)[0]

    def clean(self, latents: Float[Tensor, "n c h w"], t: Tensor | float | int, embedding: Float[Tensor, "n rows width"]) -> Float[Tensor, "n c h w"]:
        """The latents without noise that the denoiser sees in `latents`."""
        return self.predict(latents, t, embedding)[1]

    def _output(self, latents: Tensor, t: Tensor, embedding: Tensor) -> Tensor:
        """What the denoiser itself says."""
        net: Any = self.denoiser
        kind = next(p.dtype for p in net.parameters() if p.is_floating_point())
        given, read = latents.to(kind), embedding.to(kind)
        if self.summary:
            read, whole = read[:, :-1], read[:, -1, : self.summary]
        name = type(net).__name__
        if name == "SD3Transformer2DModel":
            out = net(given, encoder_hidden_states=read, pooled_projections=whole, timestep=t, return_dict=False)
        elif name == "PixArtTransformer2DModel":
            out = net(given, encoder_hidden_states=read, timestep=t, added_cond_kwargs=self._size(len(latents), latents), return_dict=False)
        elif self.summary:
            high, wide = self.pixels
            box = latents.new_tensor([high, wide, 0, 0, high, wide]).expand(len(latents), 6)
            out = net(given, t, read, added_cond_kwargs={"text_embeds": whole, "time_ids": box.to(kind)}, return_dict=False)
        else:
            out = net(given, t, read)
        out = out[0] if isinstance(out, tuple) else getattr(out, "sample", out)
        return out[:, : latents.shape[1]]  # some also predict a variance, in further channels

    def _size(self, n: int, latents: Tensor) -> dict[str, Tensor | None]:
        """What a PixArt transformer of large pictures wants to know of their size."""
        net: Any = self.denoiser
        if not net.config.use_additional_conditions:
            return {"resolution": None, "aspect_ratio": None}
        high, wide = self.pixels
        return {"resolution": latents.new_tensor([high, wide]).expand(n, 2), "aspect_ratio": latents.new_tensor([high / wide]).expand(n, 1)}

    def scheduler(self, steps: int) -> Any:
        """A fresh DDIMScheduler (of a flow model its Euler scheduler) with `steps` timesteps set. Raises `BadInput` on more steps than it was trained on."""
        from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

        kind: Any = FlowMatchEulerDiscreteScheduler if self.flow else DDIMScheduler
        made = kind.from_config(self.scheduler_config)
        if not 1 <= steps <= made.config.num_train_timesteps:
            raise BadInput(f"{steps} steps", f"the model knows {made.config.num_train_timesteps} timesteps", "Choose 10 to 50 steps", setting="steps")
        made.set_timesteps(steps)
        return made

    def schedule(self, steps: int) -> tuple[tuple[float, float], ...]:
        """(timestep, next timestep) of every step, noise first. What follows the last step is below 0 in a diffusion model, 0 in a flow."""
        times = self.scheduler(steps).timesteps.tolist()
        if self.flow:
            return tuple(zip(times, [*times[1:], 0.0], strict=True))
        gap = self.scheduler_config["num_train_timesteps"] // steps
        return tuple((float(t), float(t - gap)) for t in times)

    # ---- pixels

    @property
    def _vae(self) -> Any:
        return self.vae

    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Pictures in 0 to 1."""
        vae = self._vae
        raw = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
        return (vae.decode(raw.to(vae.dtype), return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)

    def encode(self, pixels: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n c h w"]:
        """The latents of pictures in 0 to 1: the mean of what the encoder gives, in the denoiser's scale."""
        vae = self._vae
        mean = vae.encode((2 * pixels - 1).to(vae.dtype), return_dict=False)[0].mean.float()
        return (mean - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor

    def forward(self, latents: Tensor, t: Tensor | float | int, embedding: Tensor) -> Tensor:
        return self.noise(latents, t, embedding)


def pictures(model: Model) -> Pipeline:
    """The net of a model of pictures. Raises `BadInput` where it is a model of text."""
    if not isinstance(model.net, Pipeline):
        raise BadInput(f"{model.name} writes text, it draws no pictures", "a language model was chosen on a page about pictures",
                       "Choose painter, or a folder that StableDiffusionPipeline.save_pretrained wrote", setting="model")
    return model.net


def words(model: Model, prompts: Sequence[str], setting: str = "prompt") -> Int[Tensor, "n tokens"]:
    """The ids of prompts, filled up to the model's length, on its device.

    Raises `BadInput`, for `setting`, on no prompt, an empty one, or one that is longer than the model reads.
    """
    if not prompts:
        raise BadInput("there is no prompt", cure="Write what the picture should show", setting=setting)
    for prompt in prompts:
        if not prompt.strip():
            raise BadInput("the prompt is empty", "only blanks were given", "Write what the picture should show", setting=setting)
    return _ids(model, prompts, setting)


def nothing(model: Model, n: int = 1) -> Float[Tensor, "n rows width"]:
    """The embedding of no prompt, n times."""
    net = pictures(model)
    return net.blank(_ids(model, [""], "prompt")).expand(n, -1, -1)


def _ids(model: Model, prompts: Sequence[str], setting: str) -> Tensor:
    most = pictures(model).length
    for prompt in prompts:
        count = len(model.tokenizer(prompt).input_ids)
        if count > most:
            raise BadInput(f"the prompt {shortened(prompt)!r} has {count} tokens, but {model.name} reads {most}",
                           "the marks that begin and end a prompt count too", "Shorten it", setting=setting)
    ids = model.tokenizer(list(prompts), padding="max_length", max_length=most, return_tensors="pt").input_ids
    return ids.to(model.device)


def tokens(model: Model, prompt: str) -> tuple[str, ...]:
    """The tokens of one prompt as words, with the marks that begin and end it and without those that fill it up."""
    ids = model.tokenizer(prompt).input_ids
    return tuple(_word(model.tokenizer, i) for i in ids)


def _word(tokenizer: Any, token: int) -> str:
    return tokenizer.decode([token]).strip() or tokenizer.convert_ids_to_tokens(token)


@functools.cache
def shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
