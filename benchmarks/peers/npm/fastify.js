// One click, one INSERT, one commit, then 202: two processes that share a port, a pool of 20 each.
import cluster from "node:cluster";
import { createHmac, timingSafeEqual } from "node:crypto";
import process from "node:process";
import Fastify from "fastify";
import pg from "pg";

const PROCESSES = 2;
const POOL = 20;
const INSERT = {
  name: "take-click",
  text: `INSERT INTO peer.clicks (click_id, offer_id, source, clicked_at, signature)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (click_id) DO NOTHING`,
};

const schema = {
  body: {
    type: "object",
    required: ["click_id", "offer_id", "source", "timestamp"],
    properties: {
      click_id: { type: "string", minLength: 1, maxLength: 200 },
      offer_id: { type: "integer", minimum: 1 },
      source: { type: "string", minLength: 1, maxLength: 100 },
      timestamp: { type: "string", format: "date-time" },
      signature: { type: "string", maxLength: 512 },
    },
  },
};

async function serve() {
  const pool = new pg.Pool({ connectionString: process.env.PEER_DATABASE_URL, max: POOL });
  const app = Fastify({ logger: false });
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => {
    if (request.url === "/empty") {
      done(null, undefined);
      return;
    }
    const signed = createHmac("sha256", process.env.PEER_SECRET).update(body).digest("hex");
    const given = Buffer.from(String(request.headers["x-signature"] ?? ""));
    const wanted = Buffer.from(`sha256=${signed}`);
    if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) {
      done(Object.assign(new Error("unsigned"), { statusCode: 401 }));
      return;
    }
    try {
      done(null, JSON.parse(body));
    } catch (error) {
      done(Object.assign(error, { statusCode: 400 }));
    }
  });
  app.post("/clicks", { schema }, async (request, reply) => {
    const click = request.body;
    const values = [click.click_id, click.offer_id, click.source, click.timestamp, click.signature];
    await pool.query({ ...INSERT, values });
    return reply.code(202).send({ status: "success", click_id: click.click_id });
  });
  app.post("/empty", async () => "");
  await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 2048 });
}

if (cluster.isPrimary) {
  for (let number = 0; number < PROCESSES; number += 1) cluster.fork();
  process.on("SIGTERM", () => process.exit(0));
} else {
  process.on("disconnect", () => process.exit(0));
  await serve();
}
