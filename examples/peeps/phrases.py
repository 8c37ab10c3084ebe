"""What people call the things that a peep can have: phrases of every category, and words that mean nothing here.

Entries are separated by bars. ``things`` follow "with" or "who has" (and "wearing" or "in" where they are worn),
``adjectives`` stand before the subject or after "who is", ``doing`` are participles, ``people`` are subjects that
say it by themselves. "{color}" stands for a word of the category's colour.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrases:
    """Ways to say one category, each a tuple of phrases."""

    things: tuple[str, ...] = ()
    adjectives: tuple[str, ...] = ()
    doing: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()  # adjectives of the things that change nothing
    worn: bool = False


def _p(
    things: str = "", adjectives: str = "", doing: str = "", people: str = "", sizes: str = "", *, worn: bool = False
) -> Phrases:
    return Phrases(*(tuple(x.split("|")) if x else () for x in (things, adjectives, doing, people, sizes)), worn=worn)


HEAD = {
    "afro": _p(
        "an afro|afro hair|an afro hairstyle|an afro haircut|frizzy hair|a fro|a frizzy afro|a natural afro|an afro do",
        "afro-haired|frizzy-haired",
        sizes="big|huge|large|round|puffy|fluffy|full|giant|massive",
    ),
    "bald": _p(
        "a bald head|a shaved head|a shaven head|a hairless scalp|an egghead|a bare skull|a bare scalp|a shiny scalp|a hairless head|a bald scalp|no hair|"
        "no hair at all|no hair on the head|no hair left|a bald patch|a smooth bald head|a completely bald head|"
        "baldness|zero hair|not a single hair",
        "bald|bald-headed|hairless|balding|shaven-headed|completely bald|totally bald|baldheaded|balder",
        "going bald|bald as an egg|having lost all hair|with the head shaved|with hair shaved off|without any hair|without hair|losing all hair|missing hair|lacking hair|without a hair on the head",
        "baldy|skinhead",
    ),
    "bangs": _p(
        "bangs|a fringe|hair with bangs|hair with a fringe|a bowl cut|a bang over the eyes|bangs over the forehead|straight bangs|a full fringe|"
        "shoulder length hair with bangs|hair over the forehead|a fringe over the forehead|a fringe haircut|blunt bangs",
        "fringed",
    ),
    "beanie": _p(
        "a beanie|a knit cap|a knitted cap|a woolly hat|a wool hat|a woolen cap|a woollen hat|a knitted hat|a wool cap|"
        "a winter hat|a winter cap|a bobble hat|a stocking cap|a ski cap|a beanie hat|a woollen cap|a cap|a ski hat|"
        "a woolly cap|a tuque|a warm cap|a skull cap|a beanie cap|a toque|a woolen hat|a knitted beanie|a woolen beanie|a baseball cap|a snug cap|a pom-pom hat",
        "beanie-wearing",
        sizes="warm|thick|cosy|cozy",
        worn=True,
    ),
    "bob": _p(
        "a bob|a bob cut|a bob haircut|bobbed hair|a short bob|a chin-length bob|chin length hair|jaw length hair|"
        "a pageboy cut|a bob hairstyle|straight black bob hair|hair in a bob|hair cut in a bob|a sleek bob",
        "bob-haired",
    ),
    "bun": _p(
        "a bun|a hair bun|hair in a bun|a topknot|a top knot|a chignon|hair tied up|hair tied in a bun|hair up in a bun|"
        "hair put up|an updo|a man bun|hair pulled up|hair tied on top|a bun hairstyle|a ballerina bun|a high bun|a ponytail|hair tied back|a bun on top|hair worn up|a knot of hair|"
        "hair in a knot|pinned-up hair",
        "bun-haired",
    ),
    "curly": _p(
        "curly hair|curls|wavy hair|long curly hair|big curls|ringlets|curly locks|long wavy hair|hair in curls|"
        "wild curls|a head of curls|permed hair|a perm|waves of hair|hair full of curls|bouncy curls|curled hair",
        "curly-haired|curly|curly-headed|wavy-haired|curlier",
    ),
    "dreadlocks": _p(
        "dreadlocks|dreads|locs|rasta hair|rastafarian hair|a dreadlock hairstyle|hair in dreadlocks|rasta locks|"
        "rastas|dread locks|matted locks|dreaded hair|hair in dreads|dreadlock hair|a rasta hairstyle",
        "dreadlocked|dreaded|rasta-haired",
        people="rasta|rastafarian|rasta man|reggae singer",
    ),
    "flat_top": _p(
        "a flat top|a flattop|a hi-top fade|a high-top fade|a flat top haircut|a flat-top haircut|hi-top fade hair|"
        "a high top|a box cut|a box fade|a boxy haircut|hair cut flat on top|a flat-top|a high top fade|a high fade|"
        "flat hair on top",
        "flat-topped",
    ),
    "hat": _p(
        "a hat|a brimmed hat|a hat with a brim|a fedora|a sun hat|a cowboy hat|a bowler hat|a trilby|a top hat|"
        "a black hat|a wide hat|a straw hat|a hat on the head|a panama hat|a floppy hat|a bowler|a sunhat|a sombrero|headgear|headwear|a stetson|a homburg|a felt hat|a hat with a wide brim|a boater",
        "hatted|hat-wearing",
        sizes="big|large|nice|new|fancy|stylish|old-fashioned",
        worn=True,
    ),
    "hijab": _p(
        "a hijab|a headscarf|a head scarf|a veil|a scarf over the hair|a scarf around the head|a scarf on the head|"
        "a muslim headscarf|a kerchief|a shawl over the head|an islamic veil|a chador|a niqab|a muslim veil|"
        "a scarf covering the hair|hair covered by a scarf|a head shawl|a muslim scarf",
        "veiled|headscarved|hijab-wearing",
        worn=True,
    ),
    "long": _p(
        "long hair|long black hair|long flowing hair|long straight hair|waist-length hair|hair down to the shoulders|"
        "hair past the shoulders|very long hair|long locks|hair hanging down|straight long hair|flowing hair|"
        "long tresses|longer hair|hair that is long|hair down the back|long loose hair|hair to the waist|a long mane|straight hair|long smooth hair|rapunzel hair|hair below the shoulders|shoulder-length straight hair",
        "long-haired",
    ),
    "mohawk": _p(
        "a mohawk|mohawk hair|a mohawk haircut|a mohawk hairstyle|a punk mohawk|a mohican|a mohican haircut|punk hair|"
        "a punk hairstyle|an iroquois|a hair crest|spiky punk hair|spiked hair|a spiky crest|a punk haircut|spiky hair|a spiked mohawk|a mohawk strip|liberty spikes|"
        "a mohican hairstyle|an iroquois haircut|a mohawk crest|a punk crest|hair spikes",
        "mohawked|spiky-haired|punk-haired",
        people="punk|punk rocker",
        sizes="tall|big|cool|spiky|wild",
    ),
    "pompadour": _p(
        "a pompadour|a quiff|swept back hair|pompadour hair|slicked-back hair|a rockabilly hairstyle|hair combed back|"
        "hair swept back|an elvis hairstyle|an elvis haircut|a greaser haircut|brushed back hair|slicked back hair|"
        "a rockabilly quiff|a rocker quiff|hair brushed back|a pompadour haircut|swept-back hair|an elvis quiff",
        "quiffed|slick-haired",
        people="rockabilly|greaser",
        sizes="big|tall|high|slick",
    ),
    "short": _p(
        "short hair|a short haircut|neat short hair|cropped hair|a crew cut|short cropped hair|close-cropped hair|"
        "hair cut short|a short back and sides|a pixie cut|trimmed hair|shorter hair|hair that is short|a buzz cut|"
        "very short hair|a short cut|a cropped haircut|a buzzcut|a crewcut|a military haircut|tidy short hair|barely any hair length",
        "short-haired|crop-haired",
    ),
    "turban": _p(
        "a turban|a wrapped turban|a turban on the head|a sikh turban|a cloth wrapped around the head|a head wrap|"
        "a headwrap|a dastar|a pagri|a wrap around the head|a turban of cloth|a wound turban|a wrapped head|a cloth around the head|cloth wound round the head",
        "turbaned|turban-wearing",
        people="sikh|sultan|maharaja",
        sizes="big|large|white|tall",
        worn=True,
    ),
}
EXPRESSION = {
    "neutral": _p(
        "a neutral expression|a blank look|a blank face|no expression|a poker face|a straight face|a plain expression|"
        "a serious look|an empty look|no emotion|a neutral look|a neutral face|a blank expression|a serene look|"
        "a deadpan look|a composed look|a stony face|a blank stare",
        "neutral|expressionless|calm|blank|serious|composed|emotionless|relaxed|impassive|deadpan|serene|unemotional|"
        "stone-faced|bored|poker-faced|indifferent|stern|unimpressed|apathetic|blank-faced|detached|uninterested",
        "looking neutral|showing no emotion|looking blank|staring blankly|looking calm|keeping a straight face",
    ),
    "smile": _p(
        "a smile|a big smile|a toothy smile|a wide grin|a grin|a happy expression|a smile on the face|a cheerful look|"
        "a happy face|a smiling mouth|a happy look|a friendly smile|a joyful smile|a smirk|a wide smile|a happy smile|"
        "a broad smile|a beaming smile",
        "smiling|grinning|happy|cheerful|joyful|beaming|glad|joyous|happier|delighted|merry|pleased|jolly|content|"
        "friendly|good-humoured|ecstatic|overjoyed|thrilled|elated|excited|good-natured|grinny|jovial|radiant|laughing and happy",
        "smiling|grinning|smiling broadly|smiling happily|grinning widely|looking happy|beaming|looking cheerful|"
        "showing teeth in a smile|smirking|looking glad|in a good mood|grinning happily|smiling widely|being happy",
    ),
    "laugh": _p(
        "a laugh|tears of joy|a laughing mouth|a laughing face|a hearty laugh|a big laugh|tears of laughter|"
        "a loud laugh|a laughing expression|a fit of laughter|a giggle|a chuckle",
        "laughing|amused|giggling|chuckling|hilarious",
        "laughing|laughing out loud|giggling|chuckling|crying with laughter|laughing hard|bursting out laughing|"
        "cracking up|laughing heartily|roaring with laughter|lol|howling with laughter|laughing at a joke",
    ),
    "angry": _p(
        "an angry look|rage|an angry expression|an angry face|a furious look|a scowl|anger|a mad look|an enraged face|"
        "a fierce look|a wrathful look|an angry frown|angry eyebrows|a glare|anger in the face|a hostile look",
        "angry|furious|mad|enraged|irate|livid|raging|fuming|angrier|infuriated|irritated|annoyed|outraged|"
        "hostile|grumpy|cross|fierce|aggressive|scowling|wrathful|seething|bad-tempered|displeased|vexed|mean|evil|raging mad|ill-tempered|threatening",
        "looking angry|raging|scowling|fuming|looking furious|shouting in anger|glaring|looking mad|in a rage|"
        "getting angry|boiling with anger|being angry|yelling",
    ),
    "sad": _p(
        "a sad look|a sad expression|a frown|a sad face|a long face|a gloomy look|a sorrowful look|sadness|"
        "a downcast look|sorrow|an unhappy face|a glum face|a miserable expression|a sad mouth|a depressed look|"
        "a melancholy look|a mournful face",
        "sad|unhappy|frowning|gloomy|depressed|sorrowful|miserable|sadder|melancholy|downcast|mournful|upset|glum|"
        "dejected|heartbroken|blue-hearted|down|disappointed|grieving|sombre|somber|melancholic|tearful|crying|weeping|woeful|worried|down-hearted",
        "looking sad|frowning|looking unhappy|feeling sad|looking gloomy|looking down|pouting|looking depressed|"
        "in a sad mood|moping|looking miserable|grieving|feeling blue|being sad",
    ),
    "surprised": _p(
        "a surprised look|wide open eyes|big round eyes|a surprised expression|a shocked look|a startled look|"
        "an amazed look|surprise|a look of surprise|an open mouth|an expression of shock|astonishment|a stunned face|"
        "a shocked face|a gasp|a surprised face|wide eyes|a look of shock|shock in the eyes",
        "surprised|astonished|amazed|shocked|startled|stunned|astounded|wide-eyed|gasping|awestruck|dumbfounded|"
        "flabbergasted|stupefied|speechless|thunderstruck|open-mouthed|scared|frightened|bewildered|perplexed|alarmed|terrified",
        "looking surprised|gasping|looking shocked|looking astonished|staring in surprise|looking amazed|in shock|"
        "caught by surprise|looking startled|being surprised|in awe|taken aback|looking stunned",
    ),
    "old": _p(
        "wrinkles|an old wrinkled face|age lines|wrinkled skin|lines on the face|a wrinkled face|an aged face|creases|"
        "an old face|an elderly look|deep wrinkles|wrinkles on the face|more wrinkles|a wrinkly face|many wrinkles|"
        "crow's feet|furrows|lined skin|a lined face|a weathered face|wrinkles from age|an aging face|signs of age",
        "old|elderly|wrinkled|aged|older|wrinkly|ancient|senior|aging|ageing|very old|eighty year old|"
        "grey-bearded old|lined|elder|geriatric|wizened|old and wrinkled|elderly wrinkled|retired|ninety year old|eighty-year-old|seventy-year-old|weathered|seventy year old|wrinkle-faced",
        "looking old|growing old|looking older|showing age|getting old|aging",
        "grandpa|grandma|grandfather|grandmother|granny|grandad|pensioner|senior citizen|old man|old woman|old lady|"
        "elderly man|elderly woman|old timer|old guy|older man|older woman|oldster|elder",
    ),
    "loving": _p(
        "heart eyes|hearts for eyes|a loving look|heart-shaped eyes|hearts in the eyes|eyes like hearts|love in the eyes|"
        "heart shaped eyes|a lovestruck look|an adoring look|a look of love|eyes full of love|heart eyed look",
        "loving|infatuated|lovestruck|enamoured|enamored|smitten|heart-eyed|adoring|besotted|lovesick",
        "in love|falling in love|looking lovestruck|looking in love|full of love|looking adoringly|being in love",
        "lover|romantic",
    ),
}
FACIAL_HAIR = {
    "none": _p(
        "no facial hair|a clean chin|a shaved face|a clean-shaven face|a shaven chin|no hair on the face|a bare chin|"
        "a smooth chin|a hairless face|no beard or moustache|a shaven face|a freshly shaved face|no whiskers|"
        "no beard and no moustache|a smooth shaven face|a bare upper lip and chin|no stubble|smooth shaven cheeks",
        "clean-shaven|shaved|clean shaven|smooth-shaven|freshly shaved|shaven|cleanly shaven|well-shaven|smooth-cheeked",
        "without any facial hair|without facial hair|without whiskers|without hair on the face|after a shave",
    ),
    "beard": _p(
        "a beard|a full beard|a thick beard|a bushy beard|facial hair|a long beard|a hairy chin|whiskers|a beard on the face|"
        "a hairy face|stubble|a beard on the chin|a lumberjack beard|sideburns|a scruffy beard|a five o'clock shadow|a shaggy beard|a santa beard|a beard covering the chin|a viking beard|a big beard|a beard and sideburns",
        "bearded|unshaven|whiskered|full-bearded|bushy-bearded|hairy-faced|stubbly|shaggy-bearded|bearded and hairy|scruffy-bearded|unshaved|hirsute",
        sizes="thick|bushy|full|long|dark|black|big|large|heavy|neat|trimmed|huge",
    ),
    "goatee": _p(
        "a goatee|a chin beard|a goatee beard|a small chin beard|a tuft on the chin|a goat beard|a chin tuft|"
        "a van dyke beard|a beard only on the chin|a pointed chin beard|a small pointed beard|a chin goatee",
        "goateed",
        sizes="small|short|neat|pointed|little|black|trimmed",
    ),
    "moustache": _p(
        "a moustache|a mustache|a thick moustache|a moustache on the upper lip|a hairy upper lip|a tache|a stache|a walrus moustache|a moustache above the lips|a mo|"
        "a mustache on the upper lip|a moustache over the mouth|a thick mustache|a dark mustache",
        "moustached|mustached|mustachioed|moustachioed",
        sizes="thick|big|large|black|dark|neat|small|heavy|full",
    ),
    "handlebar": _p(
        "a handlebar moustache|a long curled moustache|a handlebar mustache|a curled moustache|a twirled moustache|"
        "a curled mustache|a twirly moustache|a moustache with curled ends|a twisted mustache|a curly moustache|"
        "a handlebar|an imperial moustache|a dali moustache|a villain moustache|a moustache curling up|a waxed moustache|a mustache with twirled tips|a twirled mustache|a waxed mustache",
        "handlebar-moustached",
        sizes="big|black|large|fancy|waxed|grand",
    ),
}
ACCESSORIES = {
    "none": _p(
        "no glasses or sunglasses|uncovered eyes|no eyewear|bare eyes|nothing on the eyes|nothing over the eyes|"
        "no accessories|nothing in front of the eyes|free eyes|no glasses of any kind|plain eyes",
        "",
        "without eyewear|without anything over the eyes|wearing no eyewear|without any eyewear|without accessories",
    ),
    "glasses": _p(
        "glasses|eyeglasses|spectacles|reading glasses|a pair of glasses|specs|round glasses|a pair of spectacles|"
        "glasses on|clear glasses|eye glasses|prescription glasses|nerd glasses|a pair of eyeglasses|lenses|goggles|"
        "glasses on the nose|spectacles on the nose|hornrimmed glasses|a monocle|eyewear|horn-rimmed glasses|wire glasses|framed glasses|bifocals|a pair of specs|corrective lenses",
        "bespectacled|spectacled|glasses-wearing",
        sizes="round|big|thick|large|small|nerdy|thin|clear",
        worn=True,
    ),
    "sunglasses": _p(
        "sunglasses|dark glasses|black shades|shades|black sunglasses|a pair of sunglasses|tinted glasses|cool shades|"
        "a pair of shades|sun glasses|black glasses|ray-bans|aviators|dark shades|tinted lenses|sunnies|sun shades|"
        "a pair of dark glasses|dark lenses|cool sunglasses|wayfarers|raybans|opaque glasses|mirrored glasses|black-tinted glasses|glasses against the sun|darkened glasses|sun-glasses",
        "sunglassed",
        sizes="black|cool|big|large|stylish|round",
        worn=True,
    ),
    "eyepatch": _p(
        "an eyepatch|an eye patch|a pirate eyepatch|a patch over one eye|a covered eye|a patch on one eye|one eye covered|"
        "a patch over the eye|a pirate patch|a pirate eye patch|one eye hidden by a patch|an eye covered by a patch|"
        "a patch on the left eye|a bandage over one eye|an eye-patch|a black eyepatch|a black eye patch",
        "one-eyed|eyepatched",
        people="one-eyed pirate",
        worn=True,
    ),
}
SKIN = {
    "pale": _p(
        "pale skin|fair skin|white skin|light skin|a pale complexion|a fair complexion|a white face|a pale face|"
        "lighter skin|paler skin|very pale skin|skin that is pale|porcelain skin|light-colored skin|a light skin tone|"
        "a light complexion|pinkish skin|ivory skin",
        "pale|fair-skinned|light-skinned|pale-skinned|white|caucasian|white-skinned|paler|pallid|pale-faced|pasty|nordic|scandinavian|european|ghostly pale|wan|lighter-skinned",
        "looking pale|turning pale",
        sizes="very",
    ),
    "tan": _p(
        "tan skin|tanned skin|olive skin|a tan|a suntan|a tanned face|a tanned complexion|bronzed skin|sun-tanned skin|"
        "a sun tan|an olive complexion|light brown skin|skin with a tan|golden brown skin|a tan skin tone|caramel skin",
        "tanned|tan|sun-tanned|suntanned|olive-skinned|bronzed|tan-skinned|sunburnt|latino|latina|hispanic|mediterranean|sun-kissed|light brown-skinned",
    ),
    "brown": _p(
        "brown skin|medium brown skin|a brown complexion|a brown face|brown-toned skin|skin that is brown|"
        "a brown skin tone|hazel skin|cinnamon skin",
        "brown-skinned|brown|brown-faced|indian|south asian|pakistani",
    ),
    "dark": _p(
        "dark skin|black skin|very dark skin|a dark complexion|a black face|deep dark skin|ebony skin|dark brown skin|"
        "darker skin|a dark skin tone|skin that is dark|a dark face|deep brown skin|a black skin tone|skin of dark color",
        "dark-skinned|black|dark|african|african american|black-skinned|dark-complexioned|darker|afro-american|"
        "afro-caribbean|dark brown|african-american|nigerian|kenyan|darkskinned|ebony-skinned|darker-skinned|black african",
    ),
}
COLORS = {
    "clothing": {
        "blue": "blue|blue|light blue|sky blue|navy|azure|navy blue|dark blue|bluish|cobalt|indigo|denim blue|cyan",
        "green": "green|green|light green|mint|lime|emerald|dark green|bright green|lime green|olive green|forest green|grass green|teal",
        "yellow": "yellow|yellow|lemon|bright yellow|golden|mustard|canary yellow|light yellow",
        "pink": "pink|pink|magenta|purple|violet|fuchsia|hot pink|mauve|bright pink|lilac|rose|light pink|plum",
        "red": "red|red|crimson|scarlet|salmon|coral|bright red|light red|dark red|maroon|orange|ruby|burgundy|tomato red",
    },
    "hair_color": {
        "black": "black|black|jet black|raven black|dark|ebony|raven|coal black|pitch black",
        "brown": "brown|brown|brunette|chestnut|dark brown|light brown|hazel|chocolate|chestnut brown",
        "blond": "blond|blonde|golden|fair|flaxen|yellow|light blond|sandy|platinum blond|light",
        "red": "red|red|ginger|bright red|copper|orange|auburn|fiery red|carrot red|reddish",
        "gray": "gray|grey|white|silver|silvery|ash gray|snow white|greying|graying",
        "pink": "pink|pink|rose|pink dyed|bright pink|hot pink|rosy pink|candy pink|magenta",
    },
    "background": {
        "white": "white|white|plain white|pure white|blank white|snow white",
        "blue": "blue|blue|light blue|sky blue|pale blue|azure|bluish",
        "green": "green|green|light green|pale green|mint|mint green|lime|greenish",
        "gray": "gray|grey|light gray|light grey|dull gray|silver gray|greyish|grayish",
    },
}
GARMENTS = (
    "shirt|shirt|t-shirt|t-shirt|tee|tee shirt|tshirt|top|sweater|jumper|pullover|blouse|hoodie|jacket|jersey|"
    "sweatshirt|polo shirt|vest|dress|cardigan|coat|outfit|tunic|pull over|tank top|turtleneck|polo|suit|uniform|tee-shirt|button-up"
).split("|")
CLOTH = "clothes|clothing|garments|attire|apparel".split("|")
HAIR = "hair|hair|hair|hair|locks|tresses|hairdo|haircut".split("|")
WALLS = "background|background|background|backdrop|wall|backing|back ground|screen".split("|")
# Looks of the hair that may stand with a colour: "long pink hair", "a red mohawk".
CUTS = {
    "long": "long {color} hair|{color} long hair|long straight {color} hair|long and {color} hair",
    "short": "short {color} hair|{color} short hair|cropped {color} hair|a short {color} haircut",
    "curly": "curly {color} hair|{color} curls|wavy {color} hair|{color} curly hair",
    "mohawk": "a {color} mohawk|a {color} mohican|{color} punk hair",
    "bun": "a {color} bun|{color} hair in a bun|{color} hair tied up in a bun",
    "bangs": "{color} bangs|{color} hair with bangs|a {color} fringe|{color} hair with a fringe",
    "afro": "a {color} afro|{color} afro hair|frizzy {color} hair",
    "bob": "a {color} bob|{color} bobbed hair|a {color} bob cut",
    "dreadlocks": "{color} dreadlocks|{color} dreads",
    "pompadour": "a {color} quiff|a {color} pompadour|slicked back {color} hair",
}
# Nouns that may be seen in a drawing, or that stand in a sentence form: none of them is a filler.
NOT_FILLERS = (
    "head hood helmet crown bonnet beret sombrero wig cloak scarf tie collar necklace earring mask cloth fabric paint "
    "color colour pigment button glass optic eye mirror lamp light photo photograph picture drawing image painting "
    "sketch cartoon rendering origami graffiti tattoo embroidery toy sculpture statue plushie art video game doll "
    "man woman boy girl child adult baby mother father old elder veteran youth teenager redhead blond blonde brunette "
    "black white brown negro african indian asian oriental arab muslim moslem jew sikh bald punk hippie sunbather "
    "slave idiot freak lunkhead mistress drunk fiend ghoul maniac youngster lad grownup babe jimdandy oyabun patronne "
    "prey dear compulsive offspring ordinary contemporary widow "
    "face person portrait subject model character figure self somebody someone people human individual"
).split()
