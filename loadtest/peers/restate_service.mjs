// The workloads as a service of Restate: a step is a `run`, whose result is in Restate's log before the
// next one begins. `node restate_service.mjs PORT`

import * as restate from "@restatedev/restate-sdk";

// Node 20 does not have it yet, and the SDK asks for it when the first invocation comes.
Promise.withResolvers ??= () => {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};

const step = (context, value) => context.run("step", () => value + 1);

const peer = restate.service({
  name: "peer",
  handlers: {
    single: async (context, value) => step(context, value),
    chain: async (context, value) => {
      for (let number = 0; number < 10; number += 1) {
        value = await step(context, value);
      }
      return value;
    },
    fanout: async (context, value) => {
      const first = await step(context, value);
      const parts = Array.from({ length: 100 }, () => step(context, first));
      const all = await restate.RestatePromise.all(parts);
      return step(context, all.length);
    },
  },
});

restate.serve({ services: [peer], port: Number(process.argv[2]) });
