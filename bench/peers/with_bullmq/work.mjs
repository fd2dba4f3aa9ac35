// BullMQ's worker: computes a file's SHA-256 and moves the file to done/
import { createHash } from "node:crypto";
import { readFile, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import { Worker } from "bullmq";

const done = join(process.env.BENCH_ROOT, "done");

async function work(job) {
  const { path } = job.data;
  const sha256 = createHash("sha256").update(await readFile(path)).digest("hex");
  await rename(path, join(done, basename(path)));
  return sha256;
}

new Worker("files", work, {
  connection: { path: process.env.BENCH_URL.slice("unix://".length) },
  concurrency: Number(process.env.BENCH_CONCURRENCY),
});
