"""Numbers and lists in messages."""

from curricle.schemas.common.wording import bytes_in_words, listed


def test_bytes_stand_as_people_count_them():
    words = {
        12: "12 bytes",
        3400: "3.4 kB",
        5_400_000: "5.4 MB",
        999_600_000: "1 GB",
        1_614_000_000: "1.61 GB",
        3e13: "30 TB",
    }
    assert {number: bytes_in_words(number) for number in words} == words


def test_a_list_says_how_much_of_it_is_not_there():
    assert listed([]) == ""
    assert listed(["one", "a" * 300]) == "\n  - one\n  - " + "a" * 200
    assert listed([str(number) for number in range(10)]).endswith("\n  - 9")
    assert listed([str(number) for number in range(1012)]).endswith("\n  - 9\n  - and 1,002 more")
