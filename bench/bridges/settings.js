// Node-RED for bench/bridges: no editor, no nodes that the flow does not use, so that it starts sooner,
// and its two waits shortened from 5 s and 15 s to 1 s.
module.exports = {
  httpAdminRoot: false,
  httpNodeRoot: false,
  uiHost: "127.0.0.1",
  uiPort: Number(process.env.BRIDGE_UI_PORT),
  flowFile: "flows.json",
  credentialSecret: false,
  nodesExcludes: [
    "10-file.js", "10-function.js", "10-switch.js", "15-change.js", "16-range.js", "17-split.js", "18-sort.js", "19-batch.js",
    "20-inject.js", "21-debug.js", "21-httpin.js", "21-httprequest.js", "22-websocket.js", "23-watch.js", "31-tcpin.js",
    "32-udp.js", "70-CSV.js", "70-HTML.js", "70-JSON.js", "70-XML.js", "70-YAML.js", "80-template.js", "89-delay.js",
    "89-trigger.js", "90-exec.js", "rbe.js",
  ],
  mqttReconnectTime: 1000,
  serialReconnectTime: 1000,
  logging: { console: { level: "info", metrics: false, audit: false } },
};
