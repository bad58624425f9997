// The workloads as services of Restate, in two forms: in `run` a step is a function of the process that
// runs the workflow, whose result is in Restate's log before the next one begins; in `dispatched` it is
// an invocation of its own, which any process of the service can take. `node restate_service.mjs PORT`

import * as restate from "@restatedev/restate-sdk";

// Node 20 does not have it yet, and the SDK asks for it when the first invocation comes.
Promise.withResolvers ??= () => {
  const parts = {};
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};

const worker = restate.service({
  name: "worker",
  handlers: { step: async (_context, value) => value + 1 },
});

const workloads = (name, step) =>
  restate.service({
    name,
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

const run = workloads("run", (context, value) => context.run("step", () => value + 1));
const dispatched = workloads("dispatched", (context, value) => context.serviceClient(worker).step(value));

restate.serve({ services: [worker, run, dispatched], port: Number(process.argv[2]) });
