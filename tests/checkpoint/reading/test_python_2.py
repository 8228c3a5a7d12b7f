"""Pickles that Python 2.7's own cPickle wrote, protocols 0 to 2; the script at the end of the file made them."""

import io

import pytest
import torch

from simplenet.checkpoint.reading import Global, StandIn, read_pickle
from simplenet.checkpoint.reading.literals import Python2Text

PICKLES = [
    (
        b"(lp1\n(dp2\nS'a'\nV\xfc\nsS'c'\nS'\\xc3\\xbc'\np3\nsS'b'\nS'\\"
        b"xe9'\nsaL1180591620717411303424L\naL5L\nac__builtin"
        b"__\nset\np4\n((lp5\nI1\natRp6\nac__builtin__\nfrozenset"
        b"\np7\n((lp8\nI2\natRp9\naccollections\nOrderedDict\np10"
        b"\n((lp11\n(lp12\nS'k'\naI1\naatRp13\na(i__main__\nOld\np"
        b"14\n(dp15\nS'x'\nI1\nsbaccopy_reg\n_reconstructor\np16"
        b"\n(c__main__\nNew\np17\nc__builtin__\nobject\np18\nNtRp"
        b"19\n(dp20\nS'y'\nS'caf\\xe9'\np21\nsbag16\n(c__main__\nD"
        b"\np22\nc__builtin__\ndict\np23\n(dp24\nS'a'\nI1\nstRp25\n"
        b"aI01\naNaF1.5\nac__builtin__\ncomplex\np26\n(F1\nF2\ntR"
        b"p27\nac__builtin__\nbytearray\np28\n(V\xff\nS'latin-1'\nt"
        b"Rp29\nac__builtin__\nxrange\np30\n(I0\nI3\nI1\ntRp31\nac"
        b"collections\ndefaultdict\np32\n(c__builtin__\nlist\np"
        b"33\ntRp34\nS'z'\n(lp35\nI1\nasac__main__\nOld\np36\nac__"
        b"builtin__\nlen\np37\na."
    ),
    (
        b"]q\x01(}q\x02(U\x01aX\x02\x00\x00\x00\xc3\xbcU\x01cU\x02\xc3\xbcq\x03U\x01bU\x01\xe9uL1180591620717"
        b"411303424L\nL5L\nc__builtin__\nset\nq\x04(]q\x05K\x01atRq\x06c__"
        b"builtin__\nfrozenset\nq\x07(]q\x08K\x02atRq\tccollections\nOr"
        b"deredDict\nq\n(]q\x0b]q\x0c(U\x01kK\x01eatRq\r(c__main__\nOld\nq\x0e"
        b"oq\x0f}q\x10U\x01xK\x01sbccopy_reg\n_reconstructor\nq\x11(c__main"
        b"__\nNew\nq\x12c__builtin__\nobject\nq\x13NtRq\x14}q\x15U\x01yU\x04caf\xe9"
        b"q\x16sbh\x11(c__main__\nD\nq\x17c__builtin__\ndict\nq\x18}q\x19U\x01aK"
        b"\x01stRq\x1aI01\nNG?\xf8\x00\x00\x00\x00\x00\x00c__builtin__\ncomplex\nq\x1b(G?\xf0\x00"
        b"\x00\x00\x00\x00\x00G@\x00\x00\x00\x00\x00\x00\x00tRq\x1cc__builtin__\nbytearray\nq\x1d(X\x02\x00\x00"
        b"\x00\xc3\xbfU\x07latin-1tRq\x1ec__builtin__\nxrange\nq\x1f(K\x00K\x03K\x01tRq"
        b" ccollections\ndefaultdict\nq!(c__builtin__\nlist\nq"
        b'"tRq#U\x01z]q$K\x01ash\x0ec__builtin__\nlen\nq%e.'
    ),
    (
        b"\x80\x02]q\x01(}q\x02(U\x01aX\x02\x00\x00\x00\xc3\xbcU\x01cU\x02\xc3\xbcq\x03U\x01bU\x01\xe9u\x8a\t\x00\x00\x00\x00\x00\x00\x00\x00@\x8a"
        b"\x01\x05c__builtin__\nset\nq\x04]q\x05K\x01a\x85Rq\x06c__builtin__\nfroz"
        b"enset\nq\x07]q\x08K\x02a\x85Rq\tccollections\nOrderedDict\nq\n]q\x0b"
        b"]q\x0c(U\x01kK\x01ea\x85Rq\r(c__main__\nOld\nq\x0eoq\x0f}q\x10U\x01xK\x01sbc__"
        b"main__\nNew\nq\x11)\x81q\x12}q\x13U\x01yU\x04caf\xe9q\x14sbc__main__\nD\nq\x15)"
        b"\x81q\x16U\x01aK\x01s}q\x17b\x88NG?\xf8\x00\x00\x00\x00\x00\x00c__builtin__\ncomplex\nq\x18G"
        b"?\xf0\x00\x00\x00\x00\x00\x00G@\x00\x00\x00\x00\x00\x00\x00\x86Rq\x19c__builtin__\nbytearray\nq\x1aX\x02"
        b"\x00\x00\x00\xc3\xbfU\x07latin-1\x86Rq\x1bc__builtin__\nxrange\nq\x1cK\x00K\x03K\x01\x87R"
        b"q\x1dccollections\ndefaultdict\nq\x1ec__builtin__\nlist\nq"
        b'\x1f\x85Rq U\x01z]q!K\x01ash\x0ec__builtin__\nlen\nq"e.'
    ),
]


@pytest.mark.parametrize("data", PICKLES, ids=["protocol 0", "protocol 1", "protocol 2"])
def test_a_pickle_of_python_2_is_read(data: bytes) -> None:
    found = read_pickle(io.BytesIO(data), torch.device("cpu"), "file")
    assert found[:6] == [{"a": "ü", "b": "é", "c": "ü"}, 1 << 70, 5, {1}, frozenset({2}), {"k": 1}]
    assert isinstance(found[0]["b"], Python2Text)
    assert found[0]["b"].raw == b"\xe9"
    old, new, mapping = found[6:9]
    assert all(isinstance(item, StandIn) for item in (old, new, mapping))
    assert (old.qualified_name, old.state) == ("__main__.Old", {"x": 1})
    assert (new.qualified_name, new.state) == ("__main__.New", {"y": "café"})
    assert (mapping.qualified_name, mapping.entries, mapping.args) == ("__main__.D", {"a": 1}, ())
    assert found[9:14] == [True, None, 1.5, 1 + 2j, bytearray(b"\xff")]
    assert found[14].args == (0, 3, 1)
    assert found[15] == {"z": [1]}
    assert [item.qualified_name for item in found[16:]] == ["__main__.Old", "__builtin__.len"]
    assert all(type(item) is not StandIn and isinstance(item, Global) for item in found[16:])


# class Old: pass
# class New(object): pass
# class D(dict): pass
# old = Old(); old.x = 1
# new = New(); new.y = 'caf\xe9'
# value = [
#     {'a': u'\xfc', 'b': '\xe9', 'c': '\xc3\xbc'}, 1L << 70, 5L, set([1]), frozenset([2]),
#     OrderedDict([('k', 1)]),
#     old, new, D(a=1), True, None, 1.5, complex(1, 2), bytearray('\xff'),
#     xrange(3), defaultdict(list, {'z': [1]}),
#     Old, len]
