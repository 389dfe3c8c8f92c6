"""The genders of common nouns, and through them of their compounds; written down for this project.

Left out are nouns of two genders (der and das Teil, der and die See), and adjectives used as nouns.
"""

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Literal

from synopsis_writer.style.lexicon import LONGEST_WORD, commonness, is_compound_with

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
