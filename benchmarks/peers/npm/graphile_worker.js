// A job per callback on graphile-worker, tuned as its documentation advises: a local queue and
// batched completion. Run with "enqueue", then with "work" in as many processes as there are to be.
import { createHmac } from "node:crypto";
import http from "node:http";
import process from "node:process";
import worker from "graphile-worker";
import pg from "pg";

const inFlight = Number(process.env.PEER_IN_FLIGHT);
const secret = Buffer.from(process.env.PEER_SECRET, "base64");
const pool = new pg.Pool({
  connectionString: process.env.PEER_DATABASE_URL,
  max: Number(process.env.PEER_POOL),
});
const agent = new http.Agent({ keepAlive: true, maxSockets: inFlight });

const ENQUEUE = `
  SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
    SELECT json_populate_record(NULL::graphile_worker.job_spec,
                                json_build_object('identifier', 'deliver',
                                                  'payload', json_build_object('id', id)))
      FROM peer.callbacks ORDER BY id))`;
const LOAD = { name: "load", text: process.env.PEER_LOAD };
const RECORD = { name: "record", text: process.env.PEER_RECORD };

async function enqueue() {
  await worker.runMigrations({ pgPool: pool });
  await pool.query("TRUNCATE graphile_worker._private_jobs");
  await pool.query(ENQUEUE);
  await pool.end();
}

async function deliver({ id }) {
  const { rows: [callback] } = await pool.query({ ...LOAD, values: [id] });
  const sentAt = new Date();
  const answer = await post(callback, sentAt);
  if (answer.status !== 200) throw new Error(`answered ${answer.status}`);
  const took = Date.now() - sentAt;
  const values = [id, callback.url, answer.status, answer.body.slice(0, 500), took, sentAt];
  await pool.query({ ...RECORD, values });
}

function post({ url, event_id: eventId, body }, sentAt) {
  const timestamp = Math.floor(sentAt / 1000);
  const signed = createHmac("sha256", secret).update(`${eventId}.${timestamp}.${body}`);
  const headers = {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
    "webhook-id": eventId,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${signed.digest("base64")}`,
  };
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", agent, headers, timeout: 10000 });
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => (text += piece));
      response.on("end", () => resolve({ status: response.statusCode, body: text }));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error("timed out")));
    request.on("error", reject);
    request.end(body);
  });
}

async function work() {
  await worker.run({
    pgPool: pool,
    taskList: { deliver },
    noHandleSignals: true,
    logger: new worker.Logger(() => () => undefined),
    preset: {
      worker: {
        concurrentJobs: inFlight,
        localQueue: { size: 4 * inFlight },
        completeJobBatchDelay: 5,
        failJobBatchDelay: 5,
      },
    },
  });
}

await (process.argv[2] === "enqueue" ? enqueue() : work());
