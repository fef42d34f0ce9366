"""Runs Home Assistant with the YAML of deploy/home-assistant.md as written, except the address and the key of the server.

    play_home_assistant.py PROGRAM

scripts/test-apps.sh runs this with a Python in which Home Assistant is installed. Only the integrations of the recipe are set up.
"""

import asyncio
import pathlib
import re
import sys
import tempfile

sys.dont_write_bytecode = True
from app_server import Server  # noqa: E402
from homeassistant import auth, bootstrap, config as configuration, config_entries, core, loader  # noqa: E402
from homeassistant.setup import async_setup_component  # noqa: E402

RECIPE = pathlib.Path(__file__).resolve().parent.parent / "deploy/home-assistant.md"
INTEGRATIONS = ("persistent_notification", "rest", "script", "automation")
SECONDS = 60


def write_configuration(folder, server, key):
    """Writes the blocks of the recipe: secrets, configuration, and one automation each."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", RECIPE.read_text(), re.M | re.S)
    blocks = [block.replace("http://coffee.local:8000", server.url).replace("ct_…", key) for block in blocks]
    secrets, main, *automations = blocks
    assert key in secrets and server.url in main and len(automations) == 3, blocks
    (folder / "secrets.yaml").write_text(secrets)
    (folder / "configuration.yaml").write_text(main + "automation: !include automations.yaml\n")
    (folder / "automations.yaml").write_text("".join(automations))


async def until(condition, about):
    """Waits until the condition holds."""
    for _ in range(SECONDS * 20):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"timed out: {about}")


async def start(folder):
    hass = core.HomeAssistant(str(folder))
    hass.config.skip_pip = True
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    loader.async_setup(hass)
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth.auth_manager_from_config(hass, [], [])
    settings = await configuration.async_hass_config_yaml(hass)
    await hass.config.async_set_time_zone("Europe/Berlin")
    # Automations start at once; the web server, which starts with an event, does not.
    hass.set_state(core.CoreState.running)
    for name in ("homeassistant", "network", "rest_command"):
        assert await async_setup_component(hass, name, settings), f"the integration {name} cannot be set up"
    return hass, settings


async def play(folder, server):
    hass, settings = await start(folder)

    def logged():
        """Returns the readings after the one that was pushed."""
        return [(bpm, context) for _, bpm, context in server.readings()][1:]

    print("apps: Home Assistant: the commands log a coffee and a heart rate", flush=True)
    call = hass.services.async_call
    await call("rest_command", "log_coffee", {"mg": 80, "kind": "espresso"}, blocking=True)
    await call("rest_command", "log_heart_rate", {"bpm": "61.4"}, blocking=True)
    coffee = (await asyncio.to_thread(server.get, "/coffee/"))[0]
    assert (coffee["caffeine_mg"], coffee["coffee_type"]) == (80, "espresso"), coffee
    assert logged() == [(61, "resting")], logged()

    print("apps: Home Assistant: the sensors show them", flush=True)
    for name in INTEGRATIONS:
        assert await async_setup_component(hass, name, settings), f"the integration {name} cannot be set up"
    await hass.async_block_till_done()
    expected = {
        "sensor.caffeine_today": "80.0",
        "sensor.coffees_today": "1",
        "binary_sensor.too_much_caffeine": "off",
        "sensor.heart_rate": "61",
        "sensor.age_of_the_heart_rate": "0",
        "sensor.newest_source_of_heart_rates": "Apple Watch",
        "sensor.coffee_tracker_backup": "none",
        "binary_sensor.coffee_tracker": "on",
    }
    for entity, value in expected.items():
        state = hass.states.get(entity)
        assert state is not None and state.state == value, f"{entity}: expected {value}, got {state}"

    print("apps: Home Assistant: the automations log and report", flush=True)
    set_state = hass.states.async_set
    set_state("event.kitchen_button", "2026-11-01T08:00:00.000+00:00")
    await until(lambda: len(server.get("/coffee/")) == 2, "the coffee of the button")
    set_state("sensor.watch_heart_rate", "unavailable")
    set_state("sensor.watch_heart_rate", "99")
    set_state("sensor.watch_heart_rate", "72.6")
    # Within a minute of the former one.
    set_state("sensor.watch_heart_rate", "74")
    await until(lambda: len(logged()) > 1, "the heart rate of the watch")
    assert logged() == [(61, "resting"), (73, "watch")], logged()
    notifications = hass.data.setdefault("persistent_notification", {})
    assert not notifications, notifications
    set_state("sensor.age_of_the_heart_rate", "1500")
    await until(lambda: notifications, "the notification that heart rates are missing")
    assert [one["title"] for one in notifications.values()] == ["No heart rates"], notifications
    await hass.async_stop(force=True)


def main(program):
    with Server(program) as server, tempfile.TemporaryDirectory(prefix="coffee-home.") as folder:
        key = server.add_key("home-assistant", "read,write")
        sample = {"date": "2026-01-15 08:00:00 +0100", "Avg": 70, "source": "Apple Watch"}
        metrics = [{"name": "heart_rate", "units": "bpm", "data": [sample]}]
        assert server.api("POST", "/ingest/health-auto-export", body={"data": {"metrics": metrics}})[0] == 200
        write_configuration(pathlib.Path(folder), server, key)
        asyncio.run(play(pathlib.Path(folder), server))


if __name__ == "__main__":
    main(sys.argv[1])
