// Calls of the service, with the API key where it asks for one.

const KEY = "retort-api-key";
let refused = () => {};

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const useKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);
export const whenRefused = (ask) => { refused = ask; };

// The answer; throws an Error with the service's own words and its code. `last` is for what is sent while the page closes.
export async function call(path, body, last = false) {
  const headers = {};
  if (hasKey()) headers.Authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), keepalive: last });
  } catch {
    throw new Error("The service cannot be reached.");
  }
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  const { code, message } = content.error ?? { message: `The service answered ${response.status}.` };
  if (response.status === 401) refused(message);
  throw Object.assign(new Error(message), { code, status: response.status });
}

// `more` has what is true of the label: new_label, audit, replace.
export const giveFeedback = ({ request_id, item }, label, more = {}, last = false) =>
  call("feedback", { request_id, item, label, ...more }, last);
