"""NAMED: the corpora whose file names say everything, as their own releases are laid out."""

from __future__ import annotations

from multimodal_ser.corpora.named import Named, info_of_named
from multimodal_ser.corpora.words import shared_word


def _words(said: str) -> dict[str, str]:
    """``"a=anger d=disgust sad"`` → code → class, in the words that class sets share."""
    pairs = (pair.split("=") for pair in said.split())
    return {pair[0]: shared_word(pair[-1]) for pair in pairs}


_PEOPLE_OF_CAFE = (
    "male:46 female:64 male:18 female:50 male:22 female:34 male:15 female:25 male:42 female:20 "
    "male:35 female:37"
)

NAMED: dict[str, Named] = {
    "savee": Named(
        "SAVEE",
        r"(?P<speaker>DC|JE|JK|KL)[/_](?P<emotion>sa|su|[adfhn])(?P<sentence>\d\d)",
        _words("a=anger d=disgust f=fear h=happiness n=neutral sa=sadness su=surprise"),
        "English, 4 men in 7 emotions, 480 recordings",
        "research only, on request",
        "savee2009",
        "http://kahlan.eps.surrey.ac.uk/savee/",
        people=dict.fromkeys(("DC", "JE", "JK", "KL"), "male"),
        speakers=4,
        traps="Only 3 of the 15 sentences of each emotion are common to all emotions, so a model "
        "of the words can recognise the emotion from the sentence.",
    ),
    "tess": Named(
        "TESS",
        r"(?P<speaker>OAF|YAF|OA)_(?P<sentence>[a-z]+)_(?P<emotion>[a-z]+)",
        _words("angry disgust fear happy neutral ps=surprise sad"),
        "English, 2 women say 200 words in 7 emotions, 2,800 recordings",
        "CC BY-NC-ND 4.0",
        "tess2020",
        "https://doi.org/10.5683/SP2/E8H2MF",
        people={"OAF": "female:64", "YAF": "female:26"},
        same={"OA": "OAF"},  # one file of the release, OA_bite_neutral.wav, is named so
        speakers=2,
        traps="There are only two speakers: a split by speaker trains on one and tests on the "
        "other. Two files named .wav are in AIFF format.",
    ),
    "emovo": Named(
        "EMOVO",
        r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<speaker>[fm]\d)-(?P<sentence>[a-z]\d)",
        _words("dis=disgust gio=happiness neu=neutral pau=fear rab=anger sor=surprise tri=sadness"),
        "Italian, 6 actors say 14 sentences in 7 emotions, 588 recordings",
        "research only",
        "emovo2014",
        "http://voice.fub.it/activities/corpora/emovo/index.html",
        people={"f": "female", "m": "male"},
        speakers=6,
        traps="All actors say the same 14 sentences.",
    ),
    "esd": Named(
        "ESD",
        r"(?P<emotion>angry|happy|neutral|sad|surprise)/(?:(?P<split>train|evaluation|test)/)?"
        r"(?P<speaker>\d{4})_(?P<sentence>\d{6})",
        _words("angry happy neutral sad surprise"),
        "Mandarin (0001-0010) and English (0011-0020), 20 speakers in 5 emotions",
        "research only, on request",
        "esd2022",
        "https://hltsingapore.github.io/ESD/",
        speakers=20,
        parts="train, dev (evaluation), test, if the folders are named so",
        traps="The official parts share speakers. All speakers of a language say the same 350 "
        "sentences.",
    ),
    "cafe": Named(
        "CaFE",
        r"(?P<speaker>\d\d)-(?P<emotion>[CDJNPST])-(?P<intensity>[12])-(?P<sentence>[1-6])",
        _words("c=anger d=disgust j=happiness n=neutral p=fear s=surprise t=sadness"),
        "Canadian French, 12 actors say 6 sentences in 7 emotions, 936 recordings",
        "CC BY-NC-SA 4.0",
        "cafe2018",
        "https://doi.org/10.5281/zenodo.1219621",
        people={f"{n:02}": person for n, person in enumerate(_PEOPLE_OF_CAFE.split(), 1)},
        texts={
            "1": "Un cheval fou dans mon jardin", "2": "Deux ânes aigris au pelage brun",
            "3": "Trois cygnes aveugles au bord du lac",
            "4": "Quatre vieilles truies éléphantesques", "5": "Cinq pumas fiers et passionnés",
            "6": "Six ours aimants domestiqués",
        },
        speakers=12,
        traps="All actors say the same 6 sentences. Neutral was recorded at one intensity, all "
        "other emotions at two.",
    ),
    "emov-db": Named(
        "EmoV-DB",
        r"(?P<speaker>bea|jenie|josh|sam)[/_](?P<emotion>[a-z]+)/.*?(?P<sentence>\d{4})",
        _words("amused anger angry disgust disgusted neutral sleepy sleepiness"),
        "English, 4 speakers read CMU Arctic's sentences in 5 styles, some 7,000 recordings",
        "its own, see its page",
        "emov-db2018",
        "https://openslr.org/115/",
        people={"bea": "female", "jenie": "female", "josh": "male", "sam": "male"},
        speakers=4,
        traps="Not every speaker recorded every style. Laughter and yawns give amusement and "
        "sleepiness away.",
    ),
    "jl-corpus": Named(
        "JL-Corpus",
        r"(?P<speaker>(?:fe)?male\d)_(?P<emotion>[a-z]+)_(?P<sentence>\d+[ab])_(?P<take>\d)",
        _words("angry excited happy neutral sad anxious apologetic assertive concerned "
               "encouraging"),
        "New Zealand English, 4 speakers in 5 primary and 5 secondary emotions, 2,400 recordings",
        "CC0-1.0",
        "jl-corpus2018",
        "https://github.com/tli725/JL-Corpus",
        people={"female": "female", "male": "male"},
        speakers=4,
        traps="The five primary and five secondary emotions overlap in meaning: choose classes "
        "with --labels.",
    ),
    "subesco": Named(
        "SUBESCO",
        r"(?P<speaker>[FM]_\d+)_[a-z]+_S_(?P<sentence>\d+)_(?P<emotion>[a-z]+)_(?P<take>\d+)",
        _words("angry disgust fear happy neutral sad surprise"),
        "Bangla, 20 actors say 10 sentences in 7 emotions, 7,000 recordings",
        "CC BY 4.0",
        "subesco2021",
        "https://doi.org/10.5281/zenodo.4526477",
        people={"F": "female", "M": "male"},
        speakers=20,
        traps="All actors say the same 10 sentences.",
    ),
    "shemo": Named(
        "ShEMO",
        r"(?P<speaker>[FM]\d\d)(?P<emotion>[AFHNSW])(?P<sentence>\d+)",
        _words("a=anger f=fear h=happiness n=neutral s=sadness w=surprise"),
        "Persian, 87 speakers of radio plays in 6 emotions, 3,000 recordings",
        "research only",
        "shemo2019",
        "https://github.com/pariajm/sharif-emotional-speech-database",
        people={"F": "female", "M": "male"},
        speakers=87,
        traps="Fear has only 38 recordings.",
    ),
    "aesdd": Named(
        "AESDD",
        r"(?P<emotion>[adfhs])(?P<sentence>\d\d) ?\((?P<speaker>\d+)\)(?P<take>b?)",
        _words("a=anger d=disgust f=fear h=happiness s=sadness"),
        "Greek, 6 actors in 5 emotions, some 600 recordings",
        "research only",
        "aesdd2018",
        "http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/",
        speakers=6,
        traps="There is no neutral class. A file name that ends in b is a second take.",
    ),
    "mesd": Named(
        "MESD",
        r"(?P<emotion>[a-z]+)_(?P<voice>[FMC])_(?P<part>[AB])_(?P<sentence>[^/]+)",
        _words("anger disgust fear happiness neutral sadness"),
        "Mexican Spanish, 864 single words by women, men and children without speaker names",
        "CC BY 4.0",
        "mesd2021",
        "https://doi.org/10.17632/cy34mh68j9",
        traps="Speakers are not given, so no split by speaker can be made.",
    ),
    "urdu": Named(
        "URDU",
        r"(?P<speaker>S[FM]\d+)_F(?P<sentence>\d+)_(?P<emotion>[AHNS])\d+",
        _words("a=anger h=happiness n=neutral s=sadness"),
        "Urdu, 38 speakers of talk shows in 4 emotions, 400 recordings",
        "its own, see its page",
        "urdu2018",
        "https://github.com/siddiquelatif/URDU-Dataset",
        people={"SF": "female", "SM": "male"},
        speakers=38,
        traps="Most speakers have about ten recordings, often of only a few emotions.",
    ),
    "ased": Named(
        "ASED",
        r"(?P<emotion>[nfhsa])(?P<part>\d)-(?P<sentence>\d\d)-(?P<take>\d\d)-(?P<sex>\d\d)-"
        r"(?P<speaker>\d\d)",
        _words("n=neutral f=fear h=happiness s=sadness a=anger"),
        "Amharic, 65 speakers in 5 emotions, 2,474 recordings",
        "its own, see its page",
        "ased2023",
        "https://github.com/Ethio2021/ASED_V1",
        speakers=65,
        traps="All speakers say sentences from the same list of 27.",
    ),
    "nemo": Named(
        "nEMO",
        r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>[a-z]+)_(?P<sentence>\d+)",
        _words("anger fear happiness neutral sadness surprise surprised"),
        "Polish, 9 actors in 6 emotions, 4,481 recordings",
        "CC BY-NC-SA 4.0",
        "nemo2024",
        "https://huggingface.co/datasets/amu-cai/nEMO",
        speakers=9,
        traps="All actors say the same 90 sentences.",
    ),
    "turev-db": Named(
        "TurEV-DB",
        r"(?P<emotion>angry|calm|happy|sad)/(?P<speaker>\d+)_[a-z]+_(?P<sentence>[^/]+)",
        _words("angry calm happy sad"),
        "Turkish, 6 speakers say single words in 4 emotions (calm, not neutral), 1,735 recordings",
        "CC BY-NC-ND 4.0",
        "turev-db2020",
        "https://github.com/Xeonen/TurEV-DB",
        speakers=6,
        traps="Calm is not the same as neutral. The recordings are single words.",
    ),
    "asvp-esd": Named(
        "ASVP-ESD",
        r"03-(?P<channel>0[12])-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<sentence>\d+)-"
        r"(?P<speaker>\d+)-(?P<age_group>\d+)-(?P<source>\d+)(?P<rest>(?:[-_]\w+)*)",
        _words("01=boredom 02=neutral 03=happiness 04=sadness 05=anger 06=fear 07=disgust "
               "08=surprise 09=excitement 10=pleasure 11=pain 12=disappointment 13=other"),
        "speech and cries in several languages from films and the web, 13 classes, over 12,000",
        "its own, see its page",
        "asvp-esd2020",
        "https://doi.org/10.5281/zenodo.7132783",
        traps="Channel 02 contains cries, laughter and breathing without words. Speaker numbers "
        "are those of folders; one person may have several.",
    ),
    "mead": Named(
        "MEAD",
        r"(?P<speaker>[MW]\d{3})/audio/(?P<emotion>[a-z]+)/level_(?P<intensity>\d)/"
        r"(?P<sentence>\d+)",
        _words("angry contempt disgusted fear happy neutral sad surprised"),
        "English, the sound of MEAD: 48 actors in 8 emotions at 3 strengths",
        "research only",
        "mead2020",
        "https://wywu.github.io/projects/MEAD/MEAD.html",
        people={"M": "male", "W": "female"},
        speakers=48,
        traps="The same sentence number means different sentences in different emotions. Neutral "
        "was recorded at one intensity only.",
    ),
}  # fmt: skip

INFOS = [info_of_named(name, known) for name, known in NAMED.items()]
