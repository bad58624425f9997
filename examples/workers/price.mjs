// A worker with nothing but an AMQP client: `node price.mjs [POOL]`, with the broker's URL in AMQP_URL.
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import amqp from "amqplib";

async function price(order, key) { // `key` is the same for all attempts of one piece of work
  await sleep(1000 * (order.seconds ?? 0)); // a supplier may have to be asked
  return { total: order.lines.reduce((sum, line) => sum + line.price * line.count, 0), quote: key };
}

const actions = { "shop.price": price };
const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createConfirmChannel();
let returned = false;
channel.on("return", () => { returned = true; });
connection.on("close", () => process.exit(1)); // what is not acknowledged goes to another worker

async function send(replyTo, type, body) { // again until the broker has it
  const properties = { type, contentType: "application/json", persistent: true, mandatory: true, headers: { "flotilla-version": 1 } };
  for (;; await sleep(500)) {
    returned = false;
    const refused = await new Promise((done) => channel.publish("", replyTo, Buffer.from(JSON.stringify(body)), properties, done));
    if (!refused && !returned) return;
  }
}

async function onJob(delivery) {
  if (delivery === null) process.exit(1); // the queue was deleted
  const { replyTo, headers = {} } = delivery.properties;
  let job, answer;
  try {
    job = JSON.parse(delivery.content);
    answer = { execution_id: job.execution_id, task_id: job.task_id, attempt: job.attempt, worker: `${hostname()}/${process.pid}`, started_at: new Date() };
    const isJob = job.execution_id && job.task_id && job.attempt && replyTo && typeof job.action === "string";
    if (!isJob) throw new TypeError("not a job");
  } catch {
    return channel.reject(delivery, false); // to the dead letters
  }
  // A job that may have killed a worker has its start told first.
  if ((headers["x-delivery-count"] ?? 0) + (job.starts ?? 0) > 0) await send(replyTo, "task.started", answer);
  try {
    if (!Object.hasOwn(actions, job.action)) throw new TypeError(`this worker does not know ${job.action}`);
    if (job.secrets?.length) throw new TypeError("this worker cannot fill in secrets");
    Object.assign(answer, { status: "succeeded", result: await actions[job.action](job.input, job.idempotency_key) });
  } catch (error) { // what is wrong with the job itself is not worth a retry
    const kind = Object.hasOwn(actions, job.action) ? error.name : "unknown_action";
    const retryable = !(error instanceof TypeError || error instanceof RangeError);
    Object.assign(answer, { status: "failed", error: { kind, message: error.message, retryable } });
  }
  await send(replyTo, "task.completed", { ...answer, finished_at: new Date() });
  channel.ack(delivery);
}

await channel.prefetch(1);
await channel.consume("flotilla.jobs." + (process.argv[2] ?? "default"), onJob);
console.log("ready");
