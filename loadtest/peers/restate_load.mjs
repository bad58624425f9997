// Keeps so many invocations under way and prints their latencies in seconds, once warm and then once
// measured, each after a line on stdin: `node restate_load.mjs HANDLER_URL SECONDS IN_FLIGHT`
// With PEER_EVERY the next invocation of a place begins so many seconds after the one before.

import http from "node:http";
import readline from "node:readline";

const [handler, seconds, inFlight] = process.argv.slice(2);
const everyMs = 1000 * Number(process.env.PEER_EVERY ?? 0);
const agent = new http.Agent({ keepAlive: true, maxSockets: Number(inFlight) });

function invoke() {
  return new Promise((resolve, reject) => {
    const options = {
      method: "POST",
      agent,
      headers: { "content-type": "application/json" },
    };
    const request = http.request(handler, options, (response) => {
      response.resume();
      response.on("end", () => {
        if (response.statusCode === 200) {
          resolve();
        } else {
          reject(new Error(`status ${response.statusCode}`));
        }
      });
    });
    request.on("error", reject);
    request.end("1");
  });
}

async function load(forSeconds) {
  const latencies = [];
  const until = performance.now() + forSeconds * 1000;
  const place = async () => {
    while (performance.now() < until) {
      const began = performance.now();
      await invoke();
      latencies.push((performance.now() - began) / 1000);
      const pause = began + everyMs - performance.now();
      if (pause > 0) {
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: Number(inFlight) }, place));
  return { latencies, seconds: (performance.now() - began) / 1000 };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await load(line === "warm" ? 3 : Number(seconds))));
}
agent.destroy();
