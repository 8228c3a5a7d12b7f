"""The promises of the README that need minutes to be shown, each with its own verdict."""

from benchmarks.soak.promises import kills, poison, stalled, stop, temp, upgrades

PROMISES = {
    "kills": kills.run,
    "poison": poison.run,
    "stalled": stalled.run,
    "stop": stop.run,
    "temp": temp.run,
    "upgrades": upgrades.run,
}
