"""demo-100: 100 prompts written for stg-eval, ten of each of ten kinds (the tag), so that a first run needs no data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stg_eval.datasets.dataset import stratified
from stg_eval.datasets.files import check_options
from stg_eval.types import Case

PROMPTS: dict[str, tuple[str, ...]] = {
    "animals": (
        "A border collie leaps over a fallen log and lands in wet autumn leaves",
        "A heron stands in shallow water, strikes, and lifts a silver fish",
        "Two goat kids play on a stack of hay bales, pushing each other down",
        "An octopus unfolds its arms and glides over a field of sea urchins",
        "A tabby cat watches a wind-up mouse circle around a kitchen floor",
        "A herd of zebras kicks up dust while crossing a dry riverbed",
        "A hummingbird hovers at a red foxglove, its wings a blur",
        "A hedgehog uncurls on mossy ground and sniffs at a mushroom",
        "A flock of starlings twists and folds over a pier at dusk",
        "A tortoise slowly climbs a step in a sunny courtyard",
    ),
    "people": (
        "A potter pulls up the wall of a wet clay vase with both hands",
        "An old fisherman mends a green net on the quay, looking up to smile",
        "A girl in a yellow raincoat jumps from puddle to puddle",
        "A barber lathers a customer's face with quick circles of the brush",
        "A tap dancer crosses an empty stage under a single spotlight",
        "A nurse walks down a bright corridor while reading a chart",
        "Three friends lift their cups around a camp stove in the snow",
        "A violinist sways through a slow passage in a candlelit room",
        "A climber reaches for a small hold on an overhanging red cliff",
        "A father teaches his son to ride a bicycle on a gravel path",
    ),
    "nature": (
        "Fog pours over a ridge of pines and dissolves in the valley",
        "A wave curls, breaks, and runs up a beach of black pebbles",
        "Rain runs down a broad banana leaf and drips from its tip",
        "A field of barley moves in long waves before a thunderstorm",
        "Snow slides from a spruce branch, which springs back up",
        "Lava creeps over old rock and glows in its cracks at night",
        "A creek tumbles between boulders under yellow birches",
        "Northern lights ripple green above a frozen lake",
        "Dandelion seeds lift off one after another in a breeze",
        "Sunlight wanders across the floor of a beech forest",
    ),
    "cities": (
        "A tram turns through a wet square, its lights smeared on the cobbles",
        "Laundry flaps on lines between two narrow house fronts",
        "Commuters stream down the stairs of a station, seen from above",
        "A street sweeper cleans up confetti on the morning after a parade",
        "Neon signs flicker on above a noodle shop as the evening falls",
        "A cable car climbs past rooftops towards a hill of pines",
        "Pigeons take off from a fountain when its jets start",
        "A night bus crosses a long bridge with the skyline behind it",
        "A scaffold elevator rises along a glass tower under clouds that race by",
        "Lanterns sway over a crowded market lane during the new year feast",
    ),
    "vehicles": (
        "A steam locomotive bursts from a tunnel into falling snow",
        "A sailing dinghy heels over and rounds an orange buoy",
        "A vintage motorcycle leans into a bend on a coastal road",
        "A hot-air balloon fills with air and rises from a dewy meadow",
        "A tractor ploughs a dark field, followed by a cloud of gulls",
        "A rally car slides through a muddy corner and throws up spray",
        "A canoe drifts under a low stone bridge, its paddle dripping",
        "A cargo ship passes a lighthouse in heavy swell",
        "A child's red kick scooter rolls down an empty ramp and tips over",
        "A small propeller plane touches down on a grass runway",
    ),
    "food": (
        "Pancake batter spreads in a hot pan and begins to bubble",
        "Chocolate sauce runs over a scoop of vanilla ice cream",
        "A knife cuts a ripe mango into a hedgehog of cubes",
        "Steam rises from a bowl of ramen as chopsticks lift the noodles",
        "Coffee drips into a glass pot, drop after drop",
        "Hands braid three strands of dough on a floured board",
        "Popcorn kernels burst in a pot with a glass lid",
        "Cream swirls into a cup of black tea",
        "A pizza slides into a wood-fired oven and its edge puffs up",
        "Blueberries fall into a bowl of yoghurt in slow motion",
    ),
    "objects": (
        "A brass pendulum swings inside a tall glass clock",
        "A row of dominoes falls along a spiral on a wooden table",
        "A paper plane circles through a library and lands on an open book",
        "Sand runs through an hourglass, close up, against blue light",
        "A spinning top wobbles, slows, and falls on its side",
        "A typewriter's keys strike a sheet of paper, letter by letter",
        "Wind turns a row of paper pinwheels in a window box",
        "A music box opens and its tiny dancer starts to turn",
        "A soap bubble drifts over a desk lamp and bursts",
        "A match is struck, flares up, and lights a white candle",
    ),
    "styles": (
        "A watercolour village where the paint still spreads with every gust of wind",
        "A paper cut-out fox runs through a forest of folded trees",
        "A clay robot waters a clay sunflower, stop motion",
        "A charcoal drawing of a runner that redraws itself at each stride",
        "A pixel-art knight crosses a drawbridge at sunset",
        "An oil painting of a harbour in which only the water moves",
        "A knitted whale swims through a sea of blue wool",
        "A shadow play of two dragons that circle a paper moon",
        "A stained-glass bird beats its wings and scatters coloured light",
        "A mosaic fish swims along the wall of an old bath",
    ),
    "imagination": (
        "An astronaut waters tomatoes inside a glass dome on Mars",
        "A library whose books flutter up and roost under the ceiling",
        "A snail carries a tiny lighthouse through a foggy garden",
        "Clouds shaped like whales swim between skyscrapers",
        "A staircase of light builds itself step by step over a canyon",
        "A teapot pours a river that fills a valley on a tablecloth",
        "A clockwork dragonfly unfolds its wings on a watchmaker's bench",
        "Jellyfish float through a moonlit pine forest",
        "A tiny train runs around the rim of a steaming bathtub",
        "A giant cat sleeps on a mountain, and houses rise with its breath",
    ),
    "camera": (
        "The camera flies low over a salt flat towards a lone tent",
        "The camera circles a bronze statue in a snowy park",
        "A slow zoom into the eye of an owl on a branch",
        "The camera tilts up from muddy boots to a mountaineer's face",
        "A dolly shot along a table set for a feast, candles passing by",
        "The camera pulls back from a lit window until the whole city shows",
        "A drone rises straight up out of a maze of hedges",
        "The camera follows a skateboarder from behind through an underpass",
        "A still shot of a chessboard by a window, nothing moves but the curtain",
        "The camera dives from a pier into green water full of bubbles",
    ),
}


class Demo100:
    """Cases "animals-0" ... "camera-9"; kinds take turns."""

    missing = None

    def cases(self, dry: bool = False) -> Iterator[Case]:
        cases = [
            Case(id=f"{kind}-{number}", prompt=prompt, tags=(kind,))
            for kind, prompts in PROMPTS.items()
            for number, prompt in enumerate(prompts)
        ]
        yield from stratified(cases, lambda case: case.tags)

    def reference(self) -> None:
        return None


def open_dataset(name: str, options: Mapping[str, Any], reference_clips: int | None) -> Demo100:
    """No options."""
    check_options(name, options, ())
    return Demo100()
