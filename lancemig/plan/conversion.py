"""Whether values of one type can be made values of another by a cast, and whether that always succeeds."""

import pyarrow as pa

_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
"""How many bits of an integer a float holds without loss."""

_UNITS = ("s", "ms", "us", "ns")


def convertible(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether a cast there and back is known, so that `RetypeColumn` can do it and see what it would lose."""
    return old == new or (_shaped_alike(old, new) and _cast(old, new) and _cast(new, old))


def _shaped_alike(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether the two are nested alike: Arrow casts some that are not while there are no values."""
    if old == new:
        return True
    if isinstance(old, pa.BaseExtensionType) or isinstance(new, pa.BaseExtensionType):
        return False
    if pa.types.is_dictionary(old) or pa.types.is_dictionary(new):
        return _shaped_alike(*(of.value_type if pa.types.is_dictionary(of) else of for of in (old, new)))
    if pa.types.is_nested(old) or pa.types.is_nested(new):
        return _nested(old, new)
    return True


def _nested(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        return _fields(old) == _fields(new) and all(_child(old.field(n), new.field(n)) for n in _fields(old))
    if pa.types.is_map(old) and pa.types.is_map(new):
        return convertible(old.key_type, new.key_type) and _child(old.item_field, new.item_field)
    if pa.types.is_fixed_size_list(old) and pa.types.is_fixed_size_list(new):
        return old.list_size == new.list_size and convertible(old.value_type, new.value_type)
    return bool(_varying(old) and _varying(new) and _child(old.value_field, new.value_field))


def _varying(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of))


def _fields(of: pa.DataType) -> list[str]:
    return [of.field(at).name for at in range(of.num_fields)]


def _child(old: pa.Field, new: pa.Field) -> bool:
    # Arrow refuses to make a field inside another one non-null, and the way back would do so.
    return old.nullable == new.nullable and convertible(old.type, new.type)


def _cast(old: pa.DataType, new: pa.DataType) -> bool:
    try:
        pa.nulls(0, old).cast(new)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def widens(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether every value of `old` fits into `new`."""
    if pa.types.is_dictionary(old):
        return widens(old.value_type, new)
    if old == new or (_text(old) and _text(new)) or ((_bytes(old) or _text(old)) and _binary(new)):
        return True
    if pa.types.is_boolean(old) or (pa.types.is_integer(old) and _text(new)):
        return bool(pa.types.is_integer(new) or _text(new))
    if _number(old) and _number(new):
        return _number_widens(old, new)
    if pa.types.is_time(old) and pa.types.is_time(new):
        return _UNITS.index(old.unit) <= _UNITS.index(new.unit)
    if pa.types.is_nested(old) and pa.types.is_nested(new):
        pairs = zip(_children(old), _children(new), strict=False)
        return all(widens(one, other) for one, other in pairs)
    return False


def _number(of: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of) or of in _BITS or pa.types.is_decimal(of))


def _number_widens(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_integer(old) and pa.types.is_integer(new):
        return _integer_widens(old, new)
    if pa.types.is_decimal(old) and pa.types.is_decimal(new):
        before = old.precision - old.scale <= new.precision - new.scale
        return bool(before and old.scale <= new.scale)
    if pa.types.is_integer(old) and new in _BITS:
        return bool(old.bit_width <= _BITS[new])
    return old in _BITS and new in _BITS and _BITS[old] <= _BITS[new]


def _integer_widens(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_signed_integer(old) == pa.types.is_signed_integer(new):
        return bool(old.bit_width <= new.bit_width)
    return bool(pa.types.is_signed_integer(new) and old.bit_width < new.bit_width)


def _children(of: pa.DataType) -> list[pa.DataType]:
    return [of.field(at).type for at in range(of.num_fields)]


def _text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of))


def _binary(of: pa.DataType) -> bool:
    return bool(pa.types.is_binary(of) or pa.types.is_large_binary(of))


def _bytes(of: pa.DataType) -> bool:
    return _binary(of) or bool(pa.types.is_fixed_size_binary(of))
