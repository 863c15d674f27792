"""A serial line to MQTT as a careful engineer writes it: pyserial and paho-mqtt, QoS 1, a session that
the broker keeps, a queue without limit, a port that is opened again, a connection that comes back."""

import sys
import time

import paho.mqtt.client as mqtt
import serial

port, host, mqtt_port, topic = sys.argv[1:5]

client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bridge", clean_session=False)
client.max_queued_messages_set(0)  # no limit
client.max_inflight_messages_set(20)
client.reconnect_delay_set(min_delay=1, max_delay=1)
client.on_connect = lambda *a: print("connected", a[3], flush=True)
client.on_disconnect = lambda *a: print("disconnected", a[3], flush=True)
client.connect_async(host, int(mqtt_port), keepalive=5)
client.loop_start()

while True:
    try:
        with serial.Serial(port, 115200, timeout=0.1, exclusive=True) as line:
            print("port open", flush=True)
            rest = b""
            while True:
                rest += line.read(max(1, line.in_waiting))
                *frames, rest = rest.split(b"\0")
                for frame in frames:
                    if frame:
                        client.publish(topic, frame + b"\0", qos=1)
    except (serial.SerialException, OSError) as e:
        print("port:", e, flush=True)
        time.sleep(1)
