"""The few hundred words that the tiny tokenizers hold as whole tokens; all other text is spelled in bytes.

Whole words keep tiny sequences as short as real ones, and make the babble of a random model look like language.
"""

_TEXT = """
a about above across after all along also an and animal any are around art as at away baby back bag ball bear beautiful
behind below beside between bicycle big bird black blue boat book bottle bowl box boy bread bridge bright brown building
bus but by cake camera can car cat chair child circle city clear clock close cloud coat color colorful cup dark day deep
describe detail dinner dog door down each early empty eye face far field fire fish floor flower food for forest from
front fruit full garden girl glass gold golden grass gray green ground group hair hall hand happy has hat have he her
high hill his holding horse hot house how image in inside into is it its kitchen lake lamp large leaf left light line
little long look looking man many market medium middle mirror moon morning mountain much near new next night no north
not object ocean of office old on one open or orange other out over paint painting paper park people person photo
picture pink plane plant plate purple question rain red right river road rock room round sand scene school sea shape she
shop side sign sitting sky small snow soft some square standing star stone store street style summer sun sunset table
tall that the their there these they three to top tower town train tree triangle two under up very walking wall warm
water wave we what where which white who wide wind window winter with woman wood wooden work yellow yes you young
"""

COMMON_WORDS: tuple[str, ...] = tuple(_TEXT.split())
