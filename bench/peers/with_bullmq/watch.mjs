// chokidar watcher that adds a BullMQ job for each new file
import { join } from "node:path";
import { Queue } from "bullmq";
import { watch } from "chokidar";

const queue = new Queue("files", { connection: { path: process.env.BENCH_URL.slice("unix://".length) } });
watch(join(process.env.BENCH_ROOT, "inbox"), { depth: 0 }).on("add", (path) => queue.add("file", { path }));
