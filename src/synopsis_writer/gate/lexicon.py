"""Single words: frequency, stem, gender, language."""

import math
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from synopsis_writer.storage.arrays import Arrays, cached_arrays


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...  # noqa: N802 - the library's name


def commonness(word: str) -> float:
    """Return the Zipf frequency of a German word: 0 unknown, 3 once in a million words, 6 a function word."""
    frequency = _frequencies().get(word.casefold())
    if frequency is None:
        return 0.0 if word.isalpha() else _commonness_of_parts(word)
    return frequency


def _commonness_of_parts(word: str) -> float:
    """Return what wordfreq says of a word with marks within, without its second copy of the list.

    Source: wordfreq 3.1, `word_frequency`: 1 / f = 1 / f1 + 1 / f2 + … over the parts.
    """
    from wordfreq import lossy_tokenize, zipf_to_freq
    from wordfreq.numbers import digit_freq, smash_numbers

    rarity = 0.0
    for part in lossy_tokenize(word, "de"):
        listed = smash_numbers(part)  # digits stand as zeros in the list
        known = _frequencies().get(listed)
        if known is None:
            return 0.0
        rarity += 1 / (zipf_to_freq(known) * (digit_freq(part) if listed != part else 1.0))
    return max(0.0, round(9 - math.log10(rarity), 2)) if rarity else 0.0


@cache
def _frequencies() -> Mapping[str, float]:
    """Return the Zipf frequency of each of 630,000 German words; `ß` is written `ss` there."""
    from wordfreq import cB_to_zipf, get_frequency_list

    words: dict[str, float] = {}
    for centibels, bucket in enumerate(get_frequency_list("de", "best")):
        words.update(dict.fromkeys(bucket, cB_to_zipf(-centibels)))
    return words


LONGEST_WORD = 60  # letters; a longer word is no German word, and costly to look up


def is_listed(word: str) -> bool:
    """Whether the frequency list knows a word at all, once in a hundred million words or more."""
    return len(word) <= LONGEST_WORD and commonness(word) > 0


_local = threading.local()  # a stemmer holds the word it is at: each thread has its own


def _stemmer() -> _Stemmer:
    if not hasattr(_local, "stemmer"):
        import snowballstemmer

        _local.stemmer = snowballstemmer.stemmer("german")
    stemmer: _Stemmer = _local.stemmer
    return stemmer


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Return the Snowball stem of a lower-case German word; umlauts are folded."""
    return _stemmer().stemWord(word)


SHORTEST_CONTENT = 4  # letters of a word that carries content

_FUNCTION_WORD = 5.9  # Zipf frequency from which on a German word carries grammar rather than content


def is_function_word(word: str) -> bool:
    """Whether a German word is so common that it carries grammar rather than content."""
    return commonness(word) >= _FUNCTION_WORD


def is_content(word: str) -> bool:
    """Whether a lower-case word carries content: four letters or more, and not among the commonest."""
    return len(word) >= SHORTEST_CONTENT and not is_function_word(word)


# The function words of four letters or more, written down: the frequency list takes 90 MB, and the driver of
# a batch needs no more of it than these.
FUNCTION_WORDS = frozenset(
    """
    aber alle alles also auch beim damit dann dass denn diese dieser doch durch eine einem einen einer eines
    einfach etwas ganz gegen geht gibt habe haben hatte hier ihre immer jetzt kann kein keine können machen
    mehr mein meine mich muss nach nicht noch oder ohne schon sehr sein seine seit selbst sich sind soll
    unter viel waren weil wenn werden wieder will wird wurde zeit zwei über
    """.split()
)

# A sentence with one of these is German whatever its names are. A list of its own: short words tell most.
GERMAN_WORDS = frozenset(
    """
    der die das den dem des ein eine einen einem einer und ist sind nicht mit sich auf für von zu im am er sie
    es hat wird war ob wenn dass aber doch nur noch auch nach bei aus wie was wer wo kann will
    """.split()
)

TITLES = frozenset("dr prof doktor doktorin professor professorin med".split())

# What stands before a last name, but is neither a title nor a first name.
ADDRESSES = frozenset(
    "herr herrn frau schwester pfleger oberarzt oberärztin chefarzt chefärztin von vom van zu de der".split()
)


_LISTED = 1.5  # Zipf frequency: rarer words of the list are as often its sources' typing errors

_PART = 2.5  # the same for a part of a compound

_SHORT_PART = 3.5  # the same for a part of three letters: these fit by chance

_LEAST_PART = 3  # letters

_BASE = 2.0  # the same for a base form behind an ending

_LEAST_BASE = 5  # letters

_LINKS = ("", "s", "es", "n", "en", "er", "e")

_ENDINGS = ("e", "en", "em", "er", "es", "s", "n", "st", "t")

_DIGITS = "ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|sech|sieb|zwan"

_NUMBER = re.compile(rf"(?:{_DIGITS}|hundert|tausend|und|zig|ßig)+(?:(?:s?t|jährig|mal|fach)(?:e[nmrs]?)?)?")


@lru_cache(maxsize=200_000)
def is_known(word: str) -> bool:
    """Whether a lower-case word is listed, inflects a listed word or a compound, is a compound, or counts."""
    if len(word) < _LEAST_PART:
        return True
    if len(word) > LONGEST_WORD:
        return False
    return (
        commonness(word) >= _LISTED
        or any(commonness(base) >= _BASE or is_compound(base) for base in _bases(word))
        or is_compound(word)
        or _NUMBER.fullmatch(word) is not None
    )


def _bases(word: str) -> Iterator[str]:
    """Yield what is left of a word without each ending it has."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_BASE:
            yield word[: -len(ending)]


def is_compound(word: str, most_parts: int = 3) -> bool:
    """Whether a word splits into two to `most_parts` known parts, with linking letters between them."""
    return any(
        _is_part(word[cut:])
        and any(
            _is_part(head) or (most_parts > 2 and is_compound(head, most_parts - 1))  # noqa: PLR2004 - a pair
            for head in _heads(word[:cut])
        )
        for cut in range(_LEAST_PART, len(word) - _LEAST_PART + 1)
    )


def is_compound_with(part: str, head: str) -> bool:
    """Whether `part` is a known first part of a compound with `head`; before a short head a common one."""
    least = _PART if len(head) > _LEAST_PART else _SHORT_PART
    return any(
        commonness(stem) >= max(least, _SHORT_PART * (len(stem) <= _LEAST_PART)) for stem in _heads(part)
    )


def _heads(part: str) -> Iterator[str]:
    """Yield a first part without each linking element it may end in."""
    for link in _LINKS:
        if part.endswith(link) and len(part) - len(link) >= _LEAST_PART:
            yield part[: len(part) - len(link)]


def _is_part(part: str) -> bool:
    return commonness(part) >= (_PART if len(part) > _LEAST_PART else _SHORT_PART)


Gender = Literal["m", "f", "n"]

_FEMININE_ENDINGS = ("ung", "heit", "keit", "schaft", "tät", "enz", "erei", "tion", "sion")

_LEAST_LETTERS = 6  # of a word whose gender its ending tells: Dung and Sprung are masculine

_NO_HEADS = frozenset(
    "eid ende mut samt stern".split()
)  # Kl-eid, Reis-ende, Ar-mut, Gesundheit-s-amt, Schwe-stern


@lru_cache(maxsize=50_000)
def gender(noun: str) -> Gender | None:
    """Return the gender of a lower-case noun in the nominative singular; None for any other form or noun."""
    if len(noun) > LONGEST_WORD:
        return None
    known = _genders()
    if noun in known:
        return known[noun]
    if _is_feminine_by_ending(noun):
        return "f"
    for cut in range(3, len(noun) - 2):  # the longest head first
        head = noun[cut:]
        if head in known and head not in _NO_HEADS and is_compound_with(noun[:cut], head):
            return known[head]
    return None


def _is_feminine_by_ending(noun: str) -> bool:
    if noun.endswith("in"):
        return commonness(noun + "nen") > 0
    return len(noun) >= _LEAST_LETTERS and noun.endswith(_FEMININE_ENDINGS) and not noun.endswith("sprung")


@cache
def _genders() -> Mapping[str, Gender]:
    lists: tuple[tuple[Gender, str], ...] = (("m", _MASCULINE), ("f", _FEMININE), ("n", _NEUTER))
    return {noun: name for name, nouns in lists for noun in nouns.split()}


_MASCULINE = """
abend abgrund ablauf abschied absender abstand alarm alltag altbau anblick anfang angriff anlass anruf
ansatz anspruch anteil antrag antrieb anwalt anzug apfel apparat applaus arm arzt ast atem aufbau aufbruch
aufenthalt aufprall aufruf auftrag auftritt aufwand aufzug augenblick ausbruch ausdruck ausflug ausgang
ausweg ausweis auszug bach bahnhof balken balkon ball bart bauch bauer baum becher befehl befund beginn
begriff beitrag bereich berg bericht beruf besen besitz besitzer besuch besucher betrag betrieb betrug
beutel beweis bezirk bezug bildschirm biss blick blitz block boden bogen boss brand brauch brief bruch
bruder brunnen bub bürgermeister bus busch charakter chef chirurg chor computer dachboden dackel dampf dank
darm daumen deckel dieb dienst direktor doktor dolch dom donner dorn draht dreck druck duft durchbruch
durchmesser durst ehemann ehrgeiz eid eimer einbruch eindruck einfall einfluss eingang eingriff einkauf
einsatz eintrag enkel entschluss entwurf erfolg ersatz esel esstisch faden fahrer fahrgast fahrplan
fahrstuhl fall fang fehler feierabend feind felsen fernseher film finger fingernagel fisch fleck fleiß fluch
flüchtling flug flügel flughafen flur fluss fortschritt fotograf frieden friedhof friseur frisör frosch
frost frühling fuchs fund fuß gang garten gärtner gast gastgeber gatte gaumen gedanke gegenstand gegner
gehweg geist geiz geruch gesang geschmack gewinn gipfel glanz glaube gott graben gram griff grund gruß
gürtel hafen hahn haken hals hammer handel händler handschuh hang hass haufen hausarzt hausmeister hebel
held helfer herbst herd herr himmel hinterhof hinweis hirsch hocker hof honig hörer horizont hörsaal
hotelier hügel humor hund hunger husten inhalt innenhof irrtum januar jubel junge kaffee kaiser kalender
kamerad kamin kamm kampf kanal kandidat kapitän karton käse kasten kater kauf keller kellner kerl kern
kessel kilometer kindergarten kiosk kirschbaum kittel klang klatsch knall knochen knopf knoten koch koffer
kollege kommissar konflikt könig konkurrent kontakt kopf korb körper korridor kragen kran kranz kredit kreis
krieg kuchen kühlschrank kummer kunststoff kurs kuss lachs lack laden lärm lauf lebenslauf lehrer lehrling
leib leser lichtschalter liebhaber liebling lieferwagen lift löffel lohn löwe luftzug makel manager mangel
mann mantel markt maurer mechaniker meister mensch mieter minister mittag mittelpunkt moment monat mond
montag morgen motor müll mund musiker muskel mut nachbar nachfolger nachmittag nachname nachteil nachweis
nachwuchs nagel name nebel neffe nerv neubau norden notar notarzt notruf oberarzt ofen onkel ort osten ozean
pakt papst park parkplatz partner pass patient pfad pfarrer pfeil pfleger pflug plan platz pokal polizist
posten preis priester prinz professor profi prozess puls punkt rahmen rand rasen rat rauch raum rausch
rechtsanwalt regen regenschirm reifen reiter rest rhythmus richter riegel riemen ring riss ritt rock roman
rücken rucksack rückschlag rückweg ruf ruhm ruin rumpf saal sack saft salon samt sand sarg satz schacht
schaden schal schatten schatz scheck schein scherz schick schirm schlaf schlag schlamm schlauch schlitten
schluck schluss schlüssel schmerz schmuck schnabel schnee schnitt schnupfen schock schornstein schoß schrank
schreck schrei schreibtisch schreiner schritt schrott schub schuh schüler schuppen schuss schutz schwager
schwan schwanz schweiß schwiegersohn schwung schwur segen seitensprung senf sessel sieg sinn skandal sohn
sommer sonntag spaß spaten speck speicher sperling spiegel spieler sport spott spruch sprung staat stab
stachel stall stamm stand standort star start staub stein stern stich stiefel stil stoff stolz stoß strahl
strand strauß streich streit strick strom strumpf stuhl sturm sturz süden sumpf tag takt tank tanz täter
tatort teig teller teppich termin test teufel text tick tierarzt tisch titel tod ton topf trainer traktor
transport traum treffpunkt trick trieb tritt trost trottel trotz trubel trumpf tumor turm überblick überfall
übergang umbau umfang umgang umschlag umstand umweg umzug unfall unfug untergang unternehmer unterricht
unterschied unterschlupf urlaub ursprung vater verband verdacht verein verfolger vergleich verkauf verkehr
verlag verlauf verlust verrat verräter vers versuch vertrag verwalter verzicht vogel vorabend vordergrund
vorfall vorhang vormittag vormund vorname vorrat vorschlag vorsprung vorstand vorteil vorwand vorwurf
wächter wagen wahn wahnsinn wald walzer wandel wasserhahn weg weihnachtsbaum wein westen wettbewerb
wettkampf widerspruch widerstand wille wind winkel winter wirbel wirt witz wohnort wolf wunsch wurf zahn
zahnarzt zauber zaun zeh zeigefinger zettel zeuge zirkus zoll zopf zorn zufall zug zugang zusammenbruch
zusammenhang zusammenstoß zuschauer zustand zweck zweifel zwilling
"""

_FEMININE = """
absage absicht achsel adresse affäre akte allee allergie ampel amsel anfrage angst anklage anlage annahme
ansage ansicht antwort anzeige apotheke arbeit armut art asche atmosphäre aufgabe aufnahme auskunft ausnahme
aussage aussicht axt bahn bank bar beere behörde beichte beschwerde bestie beule beute bibel bibliothek
biene bilanz bitte blockade blume bluse blüte bohne bombe börse botschaft braut bremse brille brise brücke
brust brut bucht bude bühne burg bürste chance couch creme dame debatte decke demut diagnose dialyse
disziplin dosis droge dusche ecke ehe ehefrau ehre eile einfahrt einnahme einsicht energie enge ente
entnahme erde ernte etage fabrik fahne fahrbahn fähre fahrt fährte falle falte familie farbe fassade faust
feder fee feier feige ferne festnahme feuerwehr figur firma fläche flamme flasche flöte flucht flut folge
form frage frau freude freundin frist front frucht frühschicht fuge furcht gabe gabel galerie galle garage
garderobe gasse gebühr geburt geduld gefahr geige gemeinde geschichte gestalt geste gewalt gier glocke glut
gnade grenze grippe größe großmutter grube gruppe gunst haft hälfte halle haltestelle hand haube haut
hebamme hecke heimat heimkehr heirat herde hilfe hitze hochzeit höhe höhle hölle hose hürde hütte idee
illusion insel jacke jagd jugend jury kabine kamera kammer kanne kante kapelle karriere karte kasse
katastrophe katze kehle kerze kette kirche kirsche kiste klage klammer klappe klasse klemme klinge klinik
klinke kneipe kohle kommode konferenz kontrolle kraft krähe krawatte kreuzfahrt krise krone kruste küche kuh
kultur kunst kupplung kur kurve küste lage lampe landstraße lasche last laterne latte laune lawine legende
lehne lehre leiche leine leinwand lektion lese lippe liste logik lücke luft lüge lunge lust macht mahlzeit
maschine maske masse mauer maus medizin melodie menge messe meute miene miete milch minute mission mitte
mitternacht mode moral mühe mühle münze muße musik mutter mütze nachfrage nachricht nachsicht nacht nadel
naht narbe narkose nase natur nichte niederlage niere nonne norm not notaufnahme notiz notlage nummer nuss
oase oma oper operation orgel pacht panik panne partie party patientin pause perle person pfanne pfeife
pflanze pflege pflicht pfütze phase pille pinte pistole plage platte polizei post pracht praxis predigt
premiere presse probe prognose provinz pumpe puppe qual quelle quittung quote rache rampe rast rate raupe
redaktion rede regel regie reife reihe reise rente reue revolte rippe ritze robe rolle rose route rückkehr
ruhe ruine runde sache sage säge saison salbe säule sauna schale schande schanze schar schau scheibe
scheidung scherbe schere scheu scheune schicht schiene schlacht schlange schleife schleuse schlucht schmach
schnauze schneise schnur schokolade schranke schraube schrift schublade schuld schule schulter schürze
schüssel schwäche schwelle schwester schwiegermutter schwiegertochter seele sehkraft sehne sehnsucht seide
seife seite sekunde serie sicht silbe sippe sitte socke sohle sonne sorge sorte spende sperre spitze sprache
spritze spur stadt stange station statue stelle stiege stille stimme stirn strafe strähne straße strategie
strecke streife stube studie stufe stunde stütze suche sucht suite sünde suppe szene tafel tanne tante
tapete tasche tasse taste tat tatsache taufe technik theke theorie therapie these tiefe tinte tochter tonne
torte tracht träne trauer traufe treppe treue truhe tugend tüte übelkeit überfahrt übergabe übernahme
übersicht uhr umkehr umwelt unruhe unschuld unterkunft unterschrift untreue urkunde ursache vase vene
vernunft vision visite vitrine vollmacht vorfahrt vorfreude vorgabe vorschrift vorsicht vorstadt waage wache
waffe wahl wand wange wanne wärme wäsche watte wehmut weide weile welle welt wende werkstatt wette wiege
wiese willkür wimper wirtschaft witwe woche wolke wolle wucht wunde würde wurst wurzel wüste wut zahl zange
zeche zeile zeit zelle zentrale zeremonie zigarette zitrone zone zufahrt zukunft zulage zunge zusage
zuversicht zwiebel
"""

_NEUTER = """
abendessen abenteuer abitur abkommen abteil abzeichen akkordeon album alibi alter amt angebot angesicht
ansehen antibiotikum archiv atelier attentat attest auge ausmaß auto baby bad bataillon becken bedürfnis
begräbnis beil bein bekenntnis benehmen besteck bett bewusstsein bier bild bistro blatt blaulicht blech blei
blut blutbad boot brett brot buch budget bündel bündnis büro café camp chaos dach datum denkmal dessert
dokument dorf drama dreieck drittel duell dunkel dutzend echo ehrenwort ei eigentum einkommen eis eisen
element elend ende engagement erbstück erdbeben ereignis ergebnis erlebnis essen exil experiment fach
fahrrad fahrzeug feld fell fenster fernglas fest feuer feuerwerk fieber finale fleisch floß flugzeug format
formular frühjahr frühstück fundament futter gas gastspiel gebäude gebet gebiet gebirge gebiss gebot
gedächtnis gedicht gefängnis gefäß gefühl gegengift gegenteil gehege geheimnis gehirn gehör gelände geländer
geld gelenk gelübde gemälde gemüse gemüt genick genie gepäck gerät geräusch gericht gerücht geschäft
geschehen geschenk geschick geschirr geschlecht geschrei geschwür gesetz gesicht gespenst gespräch
geständnis gesuch getränk getreide gewehr gewicht gewissen gewitter gewürz gift gitter glas gleichgewicht
gleis glück gold grab gras grundstück gutachten guthaben haar hackfleisch handwerk handy haus heft heim hemd
herz heu hindernis hirn hobby holz horn hospital hotel huhn ideal immunsystem indiz inserat institut
instrument interesse internat internet interview jahr jahrhundert jahrzehnt jubiläum kabel kabinett kalb
kapital kapitel karussell kästchen kind kino kissen klavier kleid klima klinikum kloster kommando
kompliment komplott kondom konto konzept konzert kostüm krankenhaus kraut kreuz kunstwerk labor lächeln
lager lamm land laub lazarett leben leder lehrbuch leid leinen leuchten licht lied limit lob loch lokal los
mahl mal maul medikament meer mehl meisterwerk merkmal messer metall mietshaus mikrofon mikroskop militär
mineral missgeschick missverständnis mitgefühl mitglied mitleid mittel möbel mobiltelefon moos morgengrauen
motiv motorrad museum muster nachspiel nest netz netzwerk niveau objekt obst ohr opfer orchester organ
original paar päckchen paket papier paradies parfum parkett parlament personal pfand pferd pflaster pfund
piano plakat plasma podium portal porträt postamt praktikum problem produkt profil programm projekt
protokoll publikum pult pulver quartal quartier rad radio rätsel recht referat regal register reich rennen
restaurant resultat rezept riff rind risiko ritual rohr röntgenbild rudel ruder sanatorium schaf schauspiel
scheitern schicksal schiff schlafzimmer schloss schnitzel schreiben schuljahr schwein schwert seil semester
seminar signal silber skalpell sofa sonderangebot spiel spital stadion stadium ständchen standesamt steak
sterben stethoskop stichwort stipendium stockwerk stroh stück studio studium symbol symptom system tal
talent tattoo taxi team telefon tempo testament theater thema thermometer ticket tier training treffen
treiben treppenhaus trinkgeld tuch turnier übel ufer ultimatum umfeld unglück universum unrecht unternehmen
unwetter urteil veilchen verbot verbrechen verfahren verhalten verhältnis verhör verlangen verlies
vermächtnis vermögen versagen versprechen verständnis versteck vertrauen video vieh visum volk vorbild
vorhaben vorspiel vorurteil wachstum wagnis wahrzeichen wappen wartezimmer wasser werk werkzeug wesen wetter
wild wissen wochenende wohl wort wrack wunder zelt zentrum zertifikat zeug zeugnis ziel zimmer zitat zögern
zuhause
"""


@dataclass(frozen=True)
class LanguageClassifier:
    """Names the language of a text, of eight; loaded at the first use.

    Attributes:
        folder: where the unpacked model is cached: unpacking takes half a second at every start. None caches
            it nowhere.
    """

    folder: Path | None = None

    def __call__(self, text: str) -> tuple[str, float]:
        """Return the language's code, and its probability, 0 to 1."""
        name, probability = self.load().classify(text)
        return name, float(probability)

    def load(self) -> Any:
        """Load the model now; of several threads one does, and the others wait for it."""
        with _loading:
            return _identifier(self.folder)


UNCACHED = LanguageClassifier()

_LANGUAGES = ["de", "en", "fr", "es", "it", "nl", "tr", "pl"]

_loading = threading.Lock()


@cache
def _identifier(folder: Path | None) -> Any:
    """Return py3langid's identifier, of whose model no public part can be saved.

    The private parts are those of py3langid 0.4, to which pyproject.toml holds it.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    names = ("nb_ptc", "nb_pc", "nb_classes", "tk_nextmove", "tk_output", "tk_row")

    def unpacked() -> Any:
        identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        identifier.set_languages(_LANGUAGES)
        return identifier

    if folder is None:
        return unpacked()

    def is_sound(arrays: Arrays) -> bool:
        rows, classes = len(arrays["tk_row"]), len(arrays["nb_pc"])
        return rows == len(arrays["tk_output"]) and classes == len(arrays["nb_classes"]) == len(_LANGUAGES)

    def build() -> Arrays:
        identifier = unpacked()
        return {name: np.asarray(getattr(identifier, name)) for name in names}

    arrays = cached_arrays(folder / f"languages-{version('py3langid')}", build, is_sound)
    table, priors, classes, moves, output, rows = (arrays[name] for name in names)
    return LanguageIdentifier(
        table,
        priors,
        classes.tolist(),
        moves.data,  # read number by number, and quick at it
        output.tolist(),
        norm_probs=True,
        tk_row=rows.data,
    )
