// Firings as they happen: one WebSocket that goes on from where it was, and asks for a new ticket each time.

import { ask } from "./api.js";

/** Follow the firings of an owner after a cursor; `took` gets (event, cursor), `state` a word for the reader. Returns what ends it. */
export function follow(cursor, owner, took, state) {
  let socket = null;
  let ended = false;
  let pause = 500;
  let waiting = 0;

  const open = async () => {
    try {
      const { ticket, url } = await ask("POST", "auth/ticket", {});
      if (ended) return;
      socket = new WebSocket(url, ["tapeline.v1", `ticket.${ticket}`]);
    } catch {
      return again();
    }
    socket.onopen = () => socket.send(JSON.stringify(cursor === null ? { owner } : { owner, resume: String(cursor) }));
    socket.onmessage = (message) => {
      const told = JSON.parse(message.data);
      if (told.cursor) cursor = told.cursor;
      if (told.type === "ready") { pause = 500; state("live"); }
      if (told.type === "firing") took(told.event, told.cursor);
    };
    socket.onclose = again;
    return undefined;
  };
  const again = () => {
    if (ended) return;
    state("waiting for the stream");
    waiting = setTimeout(open, pause);
    pause = Math.min(2 * pause, 15_000);
  };
  open();
  return () => { ended = true; clearTimeout(waiting); socket?.close(); };
}
