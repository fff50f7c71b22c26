// What the tests ask of npm's ssh2: reads one job as JSON from standard input, and prints its
// result as JSON. A job: {host, port, user, password, do: "exec"|"shell"|"sftp", …}.
"use strict";

const { Client } = require("ssh2");

const DEADLINE_MS = 30_000;

function collect(stream, done) {
    const result = { stdout: "", stderr: "", code: null, signal: null };
    stream.on("data", (data) => { result.stdout += data.toString("latin1"); });
    stream.stderr.on("data", (data) => { result.stderr += data.toString("latin1"); });
    stream.on("exit", (code, signal) => { result.code = code; result.signal = signal ?? null; });
    stream.on("close", () => done(result));
}

// Every exec of one job runs on the same connection, side by side.
function exec(client, job, done) {
    const results = [];
    let open = job.commands.length;
    job.commands.forEach((command, index) => {
        client.exec(command, (error, stream) => {
            if (error) throw error;
            collect(stream, (result) => {
                results[index] = result;
                open -= 1;
                if (open === 0) done(results);
            });
            stream.end(job.stdin ?? "");
        });
    });
}

function shell(client, job, done) {
    const window = { term: "xterm", cols: job.cols, rows: job.rows };
    client.shell(window, (error, stream) => {
        if (error) throw error;
        collect(stream, done);
        stream.write(job.input);
    });
}

function sftp(client, job, done) {
    client.sftp((error, files) => {
        if (error) throw error;
        const data = Buffer.alloc(job.bytes, "0123456789abcdef");
        const failed = (error) => done({ error: error.message, code: error.code });
        files.writeFile(job.path, data, (error) => {
            if (error) return failed(error);
            files.stat(job.path, (error, stat) => {
                if (error) return failed(error);
                files.readFile(job.path, (error, read) => {
                    if (error) return failed(error);
                    files.rename(job.path, `${job.path}.moved`, (error) => {
                        if (error) return failed(error);
                        done({ size: stat.size, isSame: data.equals(read) });
                    });
                });
            });
        });
    });
}

function main(job) {
    const client = new Client();
    let banner = "";
    const end = (result) => {
        process.stdout.write(JSON.stringify({ ...result, banner }));
        client.end();
        clearTimeout(deadline);
    };
    const deadline = setTimeout(() => { throw new Error("took too long"); }, DEADLINE_MS);
    client.on("banner", (text) => { banner += text; });
    client.on("error", (error) => end({ refused: error.message }));
    client.on("ready", () => {
        const ways = { exec, shell, sftp };
        ways[job.do](client, job, (result) => end({ result }));
    });
    client.connect({
        host: job.host, port: job.port, username: job.user, password: job.password,
        authHandler: ["password"],
    });
}

let text = "";
process.stdin.on("data", (data) => { text += data; });
process.stdin.on("end", () => main(JSON.parse(text)));
