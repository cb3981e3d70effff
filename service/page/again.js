// Asking again by itself: later each time, and only while somebody looks.

const FIRST_MS = 2000;
const LONGEST_MS = 15_000;
const TIMER_MS = 2 ** 31 - 1; // a browser takes more for nothing

/** Calls `ask` a while after each `plan`, until `stop`. */
export class Again {
  #ask;
  #timer = null;
  #due = false; // while the page was hidden
  #pause = FIRST_MS;

  constructor(ask) {
    this.#ask = ask;
    document.addEventListener("visibilitychange", () => {
      if (this.#due && !document.hidden) this.#run();
    });
  }

  /** Ask once more, in `least` milliseconds or after this time's pause, whichever is later. */
  plan(least = 0) {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => this.#run(), Math.min(Math.max(least, this.#pause), TIMER_MS));
    this.#pause = Math.min(2 * this.#pause, LONGEST_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#due = false;
    this.#pause = FIRST_MS;
  }

  #run() {
    this.#due = document.hidden;
    if (this.#due) return;
    this.#timer = null;
    this.#ask();
  }
}
