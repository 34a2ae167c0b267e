"""Whether a type holds every value of another one."""

import pyarrow as pa

_UNITS = ("s", "ms", "us", "ns")
_MANTISSA = {16: 11, 32: 24, 64: 53}


def narrows(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether some values of `old` have no equal in `new`; text holds all but bytes, doubt counts as no."""
    old, new = _values(old), _values(new)
    if old == new or pa.types.is_null(old):
        return False
    if _is_text(new):
        return _is_binary(old)
    for applies, told in _RULES:
        if applies(old):
            return told(old, new)
    return False


def _values(of: pa.DataType) -> pa.DataType:
    if isinstance(of, pa.BaseExtensionType):
        return _values(of.storage_type)
    return of.value_type if pa.types.is_dictionary(of) else of


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of))


def _is_binary(of: pa.DataType) -> bool:
    of_one_length = pa.types.is_fixed_size_binary(of)
    return bool(of_one_length or pa.types.is_binary(of) or pa.types.is_large_binary(of))


def _text(_old: pa.DataType, new: pa.DataType) -> bool:
    return pa.types.is_fixed_size_binary(new) or not _is_binary(new)


def _binary(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_fixed_size_binary(new):
        return not _is_binary(new)
    return not pa.types.is_fixed_size_binary(old) or bool(old.byte_width != new.byte_width)


def _integer(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_floating(new):
        return _bits(old) > _MANTISSA[new.bit_width]
    if pa.types.is_decimal(new):
        return bool(10 ** (new.precision - new.scale) <= 2 ** _bits(old))
    if not pa.types.is_integer(new):
        return True
    signed_lost = pa.types.is_signed_integer(old) and pa.types.is_unsigned_integer(new)
    return bool(signed_lost or _bits(new) < _bits(old))


def _bits(of: pa.DataType) -> int:
    """The bits of the largest number."""
    return int(of.bit_width) - (1 if pa.types.is_signed_integer(of) else 0)


def _floating(old: pa.DataType, new: pa.DataType) -> bool:
    return bool(not pa.types.is_floating(new) or new.bit_width < old.bit_width)


def _decimal(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_decimal(new):
        return True
    whole = old.precision - old.scale > new.precision - new.scale
    return bool(whole or new.scale < old.scale)


def _instant(old: pa.DataType, new: pa.DataType) -> bool:
    if not hasattr(new, "unit"):
        return not pa.types.is_int64(new)
    return _UNITS.index(new.unit) < _UNITS.index(old.unit)


def _list(old: pa.DataType, new: pa.DataType) -> bool:
    if not hasattr(new, "value_type"):
        return True
    fixed = pa.types.is_fixed_size_list(new)
    another_length = fixed and not (pa.types.is_fixed_size_list(old) and old.list_size == new.list_size)
    return bool(another_length or narrows(old.value_type, new.value_type))


def _struct(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_struct(new):
        return True
    now = {field.name: field.type for field in new}
    return any(field.name not in now or narrows(field.type, now[field.name]) for field in old)


def _map(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_map(new):
        return False
    return narrows(old.key_type, new.key_type) or narrows(old.item_type, new.item_type)


def _is_list(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of))


_RULES = (
    (_is_text, _text),
    (_is_binary, _binary),
    (pa.types.is_integer, _integer),
    (pa.types.is_floating, _floating),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_timestamp, _instant),
    (pa.types.is_time, _instant),
    (pa.types.is_duration, _instant),
    (pa.types.is_struct, _struct),
    (pa.types.is_map, _map),
    (_is_list, _list),
)
