from p2pcap.node.meter import WINDOW, Meter


def test_rates_are_of_the_last_seconds() -> None:
    meter = Meter()
    assert (meter.images, meter.tokens) == (0.0, 0.0)
    meter.read(0.0, 0, 0)
    meter.read(10.0, 20, 1000)
    assert (meter.images, meter.tokens) == (2.0, 100.0)
    for second in range(20, 100, 10):
        meter.read(float(second), 20, 1000)
    assert (meter.images, meter.tokens) == (0.0, 0.0)


def test_a_count_that_begins_anew_is_not_a_step_back() -> None:
    meter = Meter()
    meter.read(0.0, 0, 900)
    meter.read(10.0, 10, 100)
    assert (meter.images, meter.tokens) == (1.0, 10.0)


def test_an_old_lull_is_forgotten() -> None:
    meter = Meter()
    for second in range(100):
        meter.read(float(second), 0, 0)
    for second in range(100, 101 + int(WINDOW)):
        meter.read(float(second), second - 100, 0)
    assert meter.images == 1.0
